//! countersign on smol, and on any executor that polls futures: a [`Server`] with a task for each
//! connection, a [`Client`] that connects, sends and receives, and a [`Link`] with which a task drives one
//! connection with any [`Service`](countersign_driver::Service).
//!
//! `Client` and `Link` run over any [`AsyncRead`](futures_io::AsyncRead) and
//! [`AsyncWrite`](futures_io::AsyncWrite), such as those of `async-net`; our own is [`Socket`]. Time is told
//! by `async-io`, whose thread runs where no executor of smol's does.
//!
//! `cargo run -p countersign-smol --example server` and `--example client` are a whole program each.

mod bell;
mod client;
mod link;
mod messages;
mod seats;
mod server;
mod socket;
mod wire;

pub use client::Client;
pub use link::{Link, Stopper};
pub use messages::Messages;
pub use server::Server;
pub use socket::Socket;
