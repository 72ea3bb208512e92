//! TLS in memory: two endpoints of ours, an endpoint of ours with rustls alone, and an attacker who
//! controls the network between them.
#![allow(clippy::unwrap_used, clippy::panic)]

// Helpers.
mod endpoint;
mod inner;
mod link;
mod pki;
mod rustls_peer;

// Tests.
mod alerts;
mod bytes;
mod certificates;
mod faults;
mod flow;
mod mitm;
mod resumption;
mod sessions;
