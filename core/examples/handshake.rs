//! Two sessions in one process, over two byte queues: a `mutual` handshake, a message in each
//! direction, an orderly end.
//!
//! ```text
//! cargo run -p countersign --example handshake
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::time::Instant as Clock;

use countersign::{
    Buffers, Candidates, Config, Event, Instant, Key, KeyRejection, Mutual, Nonce, ProcessId,
    Protocol, Scheme, Session,
};

/// One direction of a connection.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    /// The write side is shut; the reader gets an end of stream after the bytes.
    shut: bool,
}

/// One end: a session and the application on top of it.
struct Endpoint {
    name: &'static str,
    session: Session<[u8; 1024]>,
    key: Key,
    /// What to send when the session is established.
    greeting: Option<&'static [u8]>,
    /// The message that is being received.
    message: Vec<u8>,
    eof_seen: bool,
}

impl Endpoint {
    fn new(
        name: &'static str,
        session: Session<[u8; 1024]>,
        key: Key,
        greeting: Option<&'static [u8]>,
    ) -> Self {
        Self { name, session, key, greeting, message: Vec::new(), eof_seen: false }
    }

    /// Handles all events, then writes and reads. Returns whether anything happened.
    fn pump(
        &mut self,
        input: &mut Pipe,
        output: &mut Pipe,
        now: Instant,
    ) -> Result<bool, Box<dyn Error>> {
        let mut progress = false;
        self.session.handle_timeout(now);
        while let Some(event) = self.session.poll_event(now)? {
            progress = true;
            self.handle(event, now)?;
        }

        let bytes = self.session.poll_transmit(now);
        output.bytes.extend(bytes);
        let n = bytes.len();
        self.session.handle_transmitted(n, now);
        progress |= n > 0;
        output.shut |= self.session.wants_shutdown();

        let space = self.session.recv_space();
        if !space.is_empty() {
            let n = space.len().min(input.bytes.len());
            for (to, from) in space.iter_mut().zip(input.bytes.drain(..n)) {
                *to = from;
            }
            self.session.handle_received(n, now);
            progress |= n > 0;
            if n == 0 && input.shut && !self.eof_seen {
                self.eof_seen = true;
                self.session.handle_eof(now);
                progress = true;
            }
        }
        Ok(progress)
    }

    fn handle(&mut self, event: Event, now: Instant) -> Result<(), Box<dyn Error>> {
        match event {
            Event::KeyNeeded => {
                // A real application looks the key up in its keyring.
                let known = self.session.key_request().and_then(|request| request.key_id)
                    == Some(Mutual::DEFAULT_KEY_ID);
                let answer =
                    if known { Ok(Candidates::one(&self.key)) } else { Err(KeyRejection::Unknown) };
                self.session.provide_key(answer, now)?;
            }
            Event::Established => {
                let peer = self.session.peer().and_then(|peer| peer.name).unwrap_or_default();
                println!("{}: established with {peer}", self.name);
                if let Some(greeting) = self.greeting {
                    // The send buffer is empty, so there is room.
                    self.session.split().1.send(greeting)?;
                }
            }
            Event::Chunk { remaining, .. } => {
                self.message.extend_from_slice(self.session.split().0);
                self.session.consume(now);
                if remaining == countersign::Remaining::End {
                    println!(
                        "{}: received {:?}",
                        self.name,
                        String::from_utf8_lossy(&self.message)
                    );
                    if self.greeting.is_none() {
                        self.session.split().1.send(&self.message.to_ascii_uppercase())?;
                    }
                    self.message.clear();
                    // One message in each direction is enough.
                    self.session.finish(now);
                }
            }
            Event::PeerFinished => println!("{}: the peer has finished", self.name),
            Event::Closed => println!("{}: closed", self.name),
            // `Writable` follows a `SendError::Full` only.
            _ => {}
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = getrandom::SysRng;
    let start = Clock::now();
    let now = || Instant::EPOCH.saturating_add(start.elapsed());

    let secret = *b"32 random bytes, on both ends...";
    // Both ends are in one process here, so each draws an id. A real process draws one.
    let mut config = |name: &str| -> Result<Config, Box<dyn Error>> {
        let process_id = ProcessId::generate(&mut rng)?;
        Ok(Config::new(Scheme::Mutual(Mutual::new(name.parse()?, process_id))))
    };
    let (server_config, client_config) = (config("server")?, config("client")?);
    let buffers = || Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
    let mut server = Endpoint::new(
        "server",
        Session::server(&server_config, Nonce::generate(&mut rng)?, buffers(), now())?,
        Key::mutual(&secret)?,
        None,
    );
    let mut client = Endpoint::new(
        "client",
        Session::client(&client_config, Nonce::generate(&mut rng)?, buffers(), now())?,
        Key::mutual(&secret)?,
        Some(b"hello"),
    );

    let (mut to_server, mut to_client) = (Pipe::default(), Pipe::default());
    while !(server.session.is_done() && client.session.is_done()) {
        let server_progress = server.pump(&mut to_server, &mut to_client, now())?;
        let client_progress = client.pump(&mut to_client, &mut to_server, now())?;
        assert!(server_progress || client_progress, "both ends wait for each other");
    }
    Ok(())
}
