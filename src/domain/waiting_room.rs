//! waiting_room
