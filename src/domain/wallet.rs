//! wallet

/// Commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {}
