//! The promises of the HTTP API, asked over real connections to a real server on a port of its own.

#![cfg(feature = "server")]

mod access;
mod attacks;
mod auth;
mod bad_input;
mod events;
mod harness;
mod history;
mod houses;
mod https;
mod kill;
mod live;
mod operations;
mod process;
mod protocol;
mod receiver;
mod receivers;
mod routes;
mod sale;
mod secrets;
mod webhooks;
