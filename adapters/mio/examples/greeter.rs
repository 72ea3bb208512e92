//! A server with a service of its own: `cargo run -p countersign-mio --example greeter`, and then, in
//! a second terminal, `COUNTERSIGN_KEY="who goes there, friend" cargo run -- connect 127.0.0.1:9999`.

use std::error::Error;
use std::sync::Arc;

use countersign::{Config, Instant, Key, Mutual, Outbox, Peer, Scheme, SendError};
use countersign_driver::{Chunk, Flow, Service};
use countersign_host::{
    Address, Open, PeerAddr, PoolOptions, Pools, ServerOptions, SessionFactory, process_id,
};
use countersign_mio::Server;

/// Greets its peer by name, and then sends everything back.
#[derive(Default)]
struct Greeter {
    /// What is to be said and was not, for want of room.
    greeting: Option<String>,
}

impl Greeter {
    fn greet(&mut self, out: &mut Outbox<'_>) {
        // With all of the server's buffers in use even this is too much; then there is room later.
        self.greeting = self.greeting.take().filter(|text| out.send(text.as_bytes()).is_err());
    }
}

impl Service for Greeter {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        self.greeting = peer.name.map(|name| format!("pass, {name}"));
        self.greet(out);
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.greet(out);
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        match out.send_chunk(chunk.bytes, chunk.remaining) {
            Err(SendError::Full) => Flow::Backpressure, // the same part comes again when there is room
            _ => Flow::Consumed,
        }
    }
}

/// A server of it at `address`.
pub(crate) fn server(address: &Address) -> Result<Server<impl Open + use<>>, Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new("greeter".parse()?, process_id()?)));
    let protocol = Arc::new(SessionFactory::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(b"who goes there, friend")?);
    let open = |_: &PeerAddr, _| Greeter::default();
    Ok(Server::new(address.listen(1)?, protocol, keys, open, ServerOptions::default())?)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    Ok(server(&"127.0.0.1:9999".parse()?)?.run()?)
}
