//! A server with a service of its own: `cargo run -p countersign-mio --example greeter`, and then, in
//! a second terminal, `COUNTERSIGN_KEY=peekaboo cargo run -- connect 127.0.0.1:9999`.

use std::error::Error;
use std::sync::Arc;

use countersign::{Config, Digest, Instant, Key, Outbox, Peer, Scheme, SendError};
use countersign_drive::{Address, Flow, Origin, Part, PoolOptions, Pools, Service, Sessions};
use countersign_mio::{Server, ServerOptions};

/// Greets, and then sends everything back.
#[derive(Default)]
struct Greeter {
    greeted: bool,
}

impl Greeter {
    fn greet(&mut self, out: &mut Outbox<'_>) {
        // With all of the server's buffers in use even this is too much; then there is room later.
        self.greeted = self.greeted || out.send(b"who goes there?\n").is_ok();
    }
}

impl Service for Greeter {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        self.greet(out);
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.greet(out);
    }

    fn on_message(&mut self, part: Part<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        match out.send_part(part.bytes, part.rest) {
            Err(SendError::Full) => Flow::Blocked, // the same part comes again when there is room
            _ => Flow::Done,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let secret = b"peekaboo";
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let protocol = Arc::new(Sessions::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::challenge(Digest::Sha256, secret)?);
    let listeners = "127.0.0.1:9999".parse::<Address>()?.listen(1)?;
    let options = ServerOptions::default();
    Server::new(listeners, protocol, keys, |_: &Origin, _| Greeter::default(), options)?.run()?;
    Ok(())
}
