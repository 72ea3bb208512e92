//! Connections in the event loop of the application, beside its other sockets: three clients of one
//! server, and a listener that sends each visitor the number of clients that are left.
//!
//! With the example `mio_chat` in another terminal: `cargo run -p countersign-mio --example mio_own_loop`.

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::time::Duration;

use countersign_mio::{
    Address, Clock, Config, ConnectionEvent, Connections, Context, Key, MessageMemory, Mutual,
    Peer, Pools, ProcessId, ProtocolFactory, Scheme, Service, ServiceError, SessionFactory,
    process_id,
};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

/// Tokens of the application have the highest bit set, the one for wake-ups too.
const LISTENER: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);

/// Sends one message, reports the messages that come back, and finishes after the answer to its own.
struct Visitor<R> {
    number: usize,
    report: R,
}

impl<R: FnMut(usize, &str)> Service for Visitor<R> {
    fn on_open(&mut self, _: &Peer<'_>, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        Ok(cx.send(format!("set visitor {}", self.number).as_bytes())?)
    }

    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        (self.report)(self.number, &String::from_utf8_lossy(message));
        if message == b"stored" {
            cx.finish();
        }
        Ok(())
    }
}

/// Three visitors of the server at `address`.
pub(crate) fn visit(
    address: &Address,
    process_id: ProcessId,
    report: impl FnMut(usize, &str) + Clone,
) -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(b"a secret for the chat")?;
    let config = Config::new(Scheme::Mutual(Mutual::new("visitor".parse()?, process_id)));
    let sessions = SessionFactory::new(config, Pools::default());
    let memory = MessageMemory::default();

    let mut poll = Poll::new()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let descriptor = listener.as_raw_fd();
    poll.registry().register(&mut SourceFd(&descriptor), LISTENER, Interest::READABLE)?;
    println!("connect to {} for the number of clients left", listener.local_addr()?);

    let clock = Clock::start();
    let mut connections: Connections<_, usize> = Connections::new(poll.registry(), WAKE)?;
    for number in 0..3 {
        let until = clock.now().saturating_add(Duration::from_secs(10));
        connections.connect(address, until, number, |waker, _, _| {
            let protocol = sessions.client(&waker.into(), clock.now()).map_err(io::Error::other)?;
            let visitor = Visitor { number, report: report.clone() };
            Ok::<_, io::Error>((protocol, memory.service(visitor)))
        })?;
    }

    let mut events = Events::with_capacity(64);
    loop {
        connections.run(&key, clock.now(), |event, number| match event {
            ConnectionEvent::Established(peer) => println!("{number}: with {:?}", peer.name),
            ConnectionEvent::Ended(end) => println!("{number}: {:?}", end.result),
        });
        if connections.is_empty() {
            return Ok(());
        }
        match poll.poll(&mut events, connections.timeout(clock.now())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if connections.is_ours(event.token()) {
                connections.handle_event(event);
            } else {
                // Until none waits: the listener has no second edge for the others.
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
