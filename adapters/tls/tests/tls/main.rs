//! Ends inside TLS, in memory: with each other, with a peer that is rustls alone, and with somebody who
//! has the wire.
#![allow(clippy::unwrap_used, clippy::panic)]

/// Who takes part.
mod ends;
mod peer;
mod pki;

/// What is tested.
mod alerts;
mod bytes;
mod certificates;
mod faults;
mod flow;
mod middle;
mod pair;
mod resumption;
