//! The promises of the HTTP API, asked over real connections to a real server on a port of its own.

#![cfg(feature = "server")]

mod access;
mod attack_deaf_sockets;
mod attack_descriptors;
mod attack_slow_readers;
mod attack_templates;
mod attacks;
mod auth;
mod bad_input;
mod changes;
mod encodings;
mod events;
mod expect;
mod harness;
mod history;
mod houses;
mod https;
mod kill;
mod live;
mod money;
mod no_deliveries;
mod nodes;
mod operations;
mod order;
mod orders;
mod process;
mod protocol;
mod provider_kill;
mod provider_stub;
mod receiver;
mod receivers;
mod reconciliation;
mod retry_after;
mod routes;
mod sale;
mod same_body;
mod secrets;
mod sinks;
mod starting;
mod stripe;
mod stripe_stub;
mod toss;
mod toss_stub;
mod webhooks;
mod wire;
