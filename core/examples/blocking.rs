//! A client of the scheme `mutual` over a blocking `TcpStream`, which drives the core by hand.
//!
//! ```text
//! cargo run -p countersign --example blocking -- 127.0.0.1:7700 key-file [server-name]
//! ```
//! Sends each line of the standard input as one message, prints each reply, and ends the session in
//! order at the end of the input. The secret is the content of the key file
//! without a final newline.
//!
//! While the example waits for input it neither sends nor answers a PING, so a server ends the session
//! after two heartbeats. `countersign-std` has a client without this limitation, with whole messages
//! and reconnects.

use std::error::Error;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant as Clock};
use std::{env, fs};

use countersign::{
    Buffers, Candidates, Config, Event, Instant, Key, Mutual, Nonce, ProcessId, Protocol,
    Remaining, Scheme, Session,
};

struct Client {
    stream: TcpStream,
    session: Session<Box<[u8]>>,
    key: Key,
    start: Clock,
    /// The write side of the stream is shut.
    shut: bool,
}

impl Client {
    fn connect(address: &str, key: Key, mutual: Mutual) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let config = Config::new(Scheme::Mutual(mutual));
        let buffer = |len| vec![0; len].into_boxed_slice();
        let buffers = Buffers {
            handshake: buffer(config.handshake_len()),
            receive: buffer(16 * 1024),
            send: buffer(16 * 1024),
        };
        let nonce = Nonce::generate(&mut getrandom::SysRng)?;
        let session = Session::client(&config, nonce, buffers, Instant::EPOCH)?;
        Ok(Self { stream, session, key, start: Clock::now(), shut: false })
    }

    fn now(&self) -> Instant {
        Instant::EPOCH.saturating_add(self.start.elapsed())
    }

    /// Blocks until the session has an event.
    fn next_event(&mut self) -> Result<Event, Box<dyn Error>> {
        loop {
            let now = self.now();
            let event = self.session.poll_event(now);
            // Also after an error, so that the server gets the CLOSE with the reason.
            let flushed = self.flush();
            let event = event?;
            flushed?;
            match event {
                Some(Event::KeyNeeded) => {
                    self.session.provide_key(Ok(Candidates::one(&self.key)), now)?;
                }
                Some(event) => return Ok(event),
                None => self.wait()?,
            }
        }
    }

    /// Writes all queued bytes, and shuts the write side once no more will follow.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let now = self.now();
            let n = self.stream.write(self.session.poll_transmit(now))?;
            self.session.handle_transmitted(n, now);
        }
        if self.session.wants_shutdown() && !self.shut {
            self.stream.shutdown(Shutdown::Write)?;
            self.shut = true;
        }
        Ok(())
    }

    /// Reads once, but not beyond the next deadline of the session.
    fn wait(&mut self) -> io::Result<()> {
        let now = self.now();
        let timeout = self
            .session
            .poll_timeout()
            .map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)));
        self.stream.set_read_timeout(timeout)?;
        let space = self.session.recv_space();
        if space.is_empty() {
            // Otherwise `read` would return 0, as at the end of the stream.
            return Err(io::Error::other("the session waits, but not for bytes"));
        }
        let result = self.stream.read(space);
        let now = self.now();
        match result {
            Ok(0) => self.session.handle_eof(now),
            Ok(n) => self.session.handle_received(n, now),
            Err(error) if is_timeout(&error) => self.session.handle_received(0, now),
            Err(error) => return Err(error),
        }
        self.session.handle_timeout(now);
        Ok(())
    }

    /// Sends one message and receives one. `message` must fit one chunk.
    fn request(&mut self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        self.session.split().1.send(message)?;
        let mut reply = Vec::new();
        loop {
            match self.next_event()? {
                Event::Chunk { remaining, .. } => {
                    reply.extend_from_slice(self.session.split().0);
                    self.session.consume(self.now());
                    if remaining == Remaining::End {
                        return Ok(reply);
                    }
                }
                Event::PeerFinished => return Err("the server finished without a reply".into()),
                _ => {}
            }
        }
    }

    /// Ends the session in order: waits for the end of the server's messages too.
    fn finish(mut self) -> Result<(), Box<dyn Error>> {
        self.session.finish(self.now());
        loop {
            match self.next_event()? {
                Event::Closed => return Ok(self.flush()?),
                Event::Chunk { .. } => self.session.consume(self.now()),
                _ => {}
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blocking: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let (address, key_file, server) = match &args[..] {
        [address, key_file] => (address, key_file, None),
        [address, key_file, server] => (address, key_file, Some(server)),
        _ => return Err("usage: blocking ADDRESS KEY-FILE [SERVER-NAME]".into()),
    };
    let secret = fs::read(key_file)?;
    let key = Key::mutual(secret.strip_suffix(b"\n").unwrap_or(&secret))?;
    let process_id = ProcessId::generate(&mut getrandom::SysRng)?;
    let mut mutual = Mutual::new("blocking-example".parse()?, process_id);
    if let Some(server) = server {
        mutual = mutual.with_expected_server(server.parse()?);
    }

    let mut client = Client::connect(address, key, mutual)?;
    while client.next_event()? != Event::Established {}
    if let Some(peer) = client.session.peer() {
        eprintln!("connected to {}", peer.name.unwrap_or_default());
    }
    for line in io::stdin().lock().lines() {
        let reply = client.request(line?.as_bytes())?;
        println!("{}", String::from_utf8_lossy(&reply));
    }
    client.finish()
}
