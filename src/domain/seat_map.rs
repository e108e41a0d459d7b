//! seat_map
