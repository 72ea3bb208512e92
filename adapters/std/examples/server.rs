//! A server with a thread for each connection, so that its service may take its time:
//! `cargo run -p countersign-std --example server`, and then the example `client`.

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use countersign::{Config, Instant, Key, Mutual, Outbox, Scheme, SendError};
use countersign_driver::{Chunk, Flow, Service};
use countersign_host::{
    Address, Open, PeerAddr, PoolOptions, Pools, ServerOptions, SessionFactory, process_id,
};
use countersign_std::Server;

/// Thinks for a moment about each message, and sends it back.
struct Slow;

impl Service for Slow {
    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        if chunk.first {
            thread::sleep(Duration::from_millis(300));
        }
        match out.send_chunk(chunk.bytes, chunk.remaining) {
            Err(SendError::Full) => Flow::Backpressure, // the same part comes again when there is room
            _ => Flow::Consumed,
        }
    }
}

/// A server of it at `address`.
pub(crate) fn server(address: &Address) -> Result<Server<impl Open + use<>>, Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new("thinker".parse()?, process_id()?)));
    let protocol = Arc::new(SessionFactory::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(b"who goes there, friend")?);
    let open = |_: &PeerAddr, _| Slow;
    Ok(Server::new(address.listen(1)?, protocol, keys, open, ServerOptions::default())?)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    server(&"127.0.0.1:9999".parse()?)?.run();
    Ok(())
}
