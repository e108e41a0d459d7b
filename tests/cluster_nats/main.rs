//! The connection of a cluster's nodes, with real NATS servers that are killed and stopped.

mod down;
mod faults;
mod members;
mod node;
mod one;
mod secure;
mod servers;
mod settings;
