//! concert_option
