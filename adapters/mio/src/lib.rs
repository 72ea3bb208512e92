//! countersign on a mio event loop: one thread, many connections.
//!
//! [`Server`] is a whole server: listeners, connections, an orderly stop. [`Connections`] is the
//! part of it that drives connections on anybody's `mio::Poll`.
//!
//! Readiness is edge-triggered: a connection that was not read dry stays in a queue of its own and
//! is taken up again before the loop sleeps, each in turn, so that nobody is served at another's
//! expense.

mod connections;
mod server;
mod wake;

pub use connections::Connections;
pub use server::Server;
