//! Connections in a loop that is the program's own, beside what else is in it: three clients of one
//! server, and a listener that tells whoever connects how many of them are left.
//!
//! With the example `greeter` in another terminal: `cargo run -p countersign-mio --example own_loop`.

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

use countersign::{Config, Instant, Key, Mutual, Outbox, Peer, ProcessId, Scheme};
use countersign_driver::{Chunk, Flow, Service};
use countersign_host::{
    Address, Clock, ConnectionEvent, PoolOptions, Pools, ProtocolFactory, SessionFactory,
    process_id,
};
use countersign_mio::Connections;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

/// The program's own tokens have the highest bit set, and so has the one that wakes are given.
const LISTENER: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);

/// Says hello, tells what comes back, and ends after that.
struct Hello<T> {
    number: usize,
    tell: T,
}

impl<T: FnMut(usize, &str)> Service for Hello<T> {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        // One that cannot even say that, for want of a buffer, has nothing to wait for.
        if out.send(format!("hello from {}", self.number).as_bytes()).is_err() {
            out.finish();
        }
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        (self.tell)(self.number, &String::from_utf8_lossy(chunk.bytes));
        if chunk.bytes.starts_with(b"hello") {
            out.finish();
        }
        Flow::Consumed
    }
}

/// Three of them, at `server`.
pub(crate) fn visit(
    server: &Address,
    instance: ProcessId,
    tell: impl FnMut(usize, &str) + Clone,
) -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(b"who goes there, friend")?;
    let config = Config::new(Scheme::Mutual(Mutual::new("visitor".parse()?, instance)));
    let sessions = SessionFactory::new(config, Pools::new(&PoolOptions::default()));

    let mut poll = Poll::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let descriptor = listener.as_raw_fd();
    poll.registry().register(&mut SourceFd(&descriptor), LISTENER, Interest::READABLE)?;
    println!("connect to {} to hear how many are left", listener.local_addr()?);

    let clock = Clock::start();
    let mut connections: Connections<_, usize> = Connections::new(poll.registry(), WAKE)?;
    for number in 0..3 {
        let until = clock.now().saturating_add(Duration::from_secs(10));
        connections.connect(server, until, number, |wake, _| {
            let machine = sessions.client(wake, clock.now()).map_err(io::Error::other)?;
            Ok::<_, io::Error>((machine, Hello { number, tell: tell.clone() }))
        })?;
    }

    let mut events = Events::with_capacity(64);
    loop {
        connections.run(&key, clock.now(), |notice, number| match notice {
            ConnectionEvent::Established { peer, .. } => println!("{number}: with {:?}", peer.name),
            ConnectionEvent::Ended(ended) => println!("{number}: {:?}", ended.how),
        });
        if connections.is_empty() {
            return Ok(());
        }
        match poll.poll(&mut events, connections.timeout(clock.now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if connections.is_ours(event.token()) {
                connections.ready(event);
            } else {
                // Until there is nobody left: a listener has no second edge for the others.
                while let Ok((mut stream, _)) = listener.accept() {
                    let _ = writeln!(stream, "{}", connections.len());
                }
            }
        }
    }
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    visit(&"127.0.0.1:9999".parse()?, process_id()?, |number, text| println!("{number}: {text}"))
}
