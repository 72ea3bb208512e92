//! Sessions in memory: both ends of a connection, pipes between them, and buffers with a budget.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use countersign::{
    Buffers, Config, Instant, Key, Mutual, Nonce, Outbox, ProcessId, Role, Scheme, SendError,
    Session,
};
use countersign_driver::{BufferError, Driver, Interest, Io, MessageBuffer, Progress};

/// The protocol of one end.
pub(crate) type Protocol = Box<Session<Vec<u8>>>;

/// The error of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// One direction of a connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) bytes: VecDeque<u8>,
    /// In bytes.
    pub(crate) capacity: usize,
    pub(crate) shut: bool,
    pub(crate) broken: bool,
    /// Written bytes stay in the transport: a flush would block.
    pub(crate) holds: bool,
}

pub(crate) type SharedPipe = Rc<RefCell<Pipe>>;

fn pipe() -> SharedPipe {
    let capacity = usize::MAX;
    Rc::new(RefCell::new(Pipe {
        bytes: VecDeque::new(),
        capacity,
        shut: false,
        broken: false,
        holds: false,
    }))
}

/// One end of a pair of pipes.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) input: SharedPipe,
    pub(crate) output: SharedPipe,
}

/// The ends of the client and the server.
pub(crate) fn ends() -> (End, End) {
    let (up, down) = (pipe(), pipe());
    (End { input: down.clone(), output: up.clone() }, End { input: up, output: down })
}

impl Io for End {
    type Error = Broken;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Broken> {
        let mut pipe = self.input.borrow_mut();
        if pipe.broken {
            return Err(Broken);
        }
        let n = into.len().min(pipe.bytes.len());
        pipe.bytes.drain(..n).zip(into).for_each(|(byte, to)| *to = byte);
        Ok((n > 0 || pipe.shut).then_some(n))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Broken> {
        let mut pipe = self.output.borrow_mut();
        if pipe.broken {
            return Err(Broken);
        }
        let n = from.len().min(pipe.capacity.saturating_sub(pipe.bytes.len()));
        pipe.bytes.extend(&from[..n]);
        Ok((n > 0).then_some(n))
    }

    fn shut_write(&mut self) -> Result<(), Broken> {
        self.output.borrow_mut().shut = true;
        Ok(())
    }

    fn flush(&mut self) -> Result<bool, Broken> {
        Ok(!self.output.borrow().holds)
    }
}

/// Which framing a test uses: lengths announced before a message, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framed {
    Announced,
    Unannounced,
}

/// A session of one end, with send and receive buffers of `buffer` bytes.
pub(crate) fn session(role: Role, framed: Framed, buffer: usize) -> Protocol {
    let process = if role == Role::Client { 1 } else { 2 };
    let scheme = match framed {
        Framed::Announced => Scheme::None,
        Framed::Unannounced => {
            let name = if role == Role::Client { "client" } else { "server" };
            let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
            Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id))
        }
    };
    let make = if role == Role::Client { Session::client } else { Session::server };
    let buffers =
        Buffers { handshake: vec![0; 1024], receive: vec![0; buffer], send: vec![0; buffer] };
    let nonce = Nonce::from_bytes([process; Nonce::LEN]);
    Box::new(make(&Config::new(scheme), nonce, buffers, Instant::EPOCH).unwrap())
}

pub(crate) fn key() -> Key {
    Key::mutual(b"a key that is long enough for anyone").unwrap()
}

pub(crate) fn at(millis: u64) -> Instant {
    Instant::EPOCH.saturating_add(Duration::from_millis(millis))
}

/// A driver and its end of the pipes.
pub(crate) struct Side {
    pub(crate) driver: Driver<Protocol, Broken>,
    pub(crate) io: End,
}

impl Side {
    /// Polls once.
    pub(crate) fn poll(&mut self, now: Instant) -> Progress<Broken> {
        self.driver.poll(&mut self.io, &key(), now)
    }

    /// Polls until it waits; drops the events, but not the chunks.
    pub(crate) fn settle(&mut self, now: Instant) -> Interest {
        loop {
            match self.poll(now) {
                Progress::Wait(interest) => return interest,
                Progress::Closed(result) => panic!("closed: {result:?}"),
                Progress::Event(_) | Progress::Yield => {}
            }
        }
    }

    pub(crate) fn outbox(&mut self) -> Outbox<'_> {
        self.driver.outbox()
    }
}

/// A client and a server with the handshake done.
pub(crate) fn established(framed: Framed, buffer: usize) -> (Side, Side) {
    established_with(framed, buffer, buffer)
}

/// A client and a server with buffers of different lengths.
pub(crate) fn established_with(framed: Framed, client: usize, server: usize) -> (Side, Side) {
    let (up, down) = ends();
    let side = |role, buffer, io| Side { driver: Driver::new(session(role, framed, buffer)), io };
    let (mut client, mut server) =
        (side(Role::Client, client, up), side(Role::Server, server, down));
    for _ in 0..5 {
        server.settle(at(0));
        client.settle(at(0));
    }
    assert!(client.driver.is_established() && server.driver.is_established());
    (client, server)
}

/// A buffer of at most `max` bytes that takes its memory from a budget.
#[derive(Debug)]
pub(crate) struct Budgeted {
    bytes: Vec<u8>,
    max: usize,
    /// Bytes taken from the budget; not less than `bytes.len()`.
    reserved: usize,
    budget: Rc<Cell<usize>>,
}

impl Budgeted {
    pub(crate) fn new(max: usize, budget: &Rc<Cell<usize>>) -> Self {
        Self { bytes: Vec::new(), max, reserved: 0, budget: budget.clone() }
    }

    /// A buffer of at most `max` bytes with a budget of its own.
    pub(crate) fn alone(max: usize) -> Self {
        Self::new(max, &Rc::new(Cell::new(usize::MAX)))
    }
}

impl MessageBuffer for Budgeted {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn max_len(&self) -> usize {
        self.max
    }

    fn reserve(&mut self, additional: usize) -> Result<(), BufferError> {
        let needed = self.bytes.len().saturating_add(additional);
        if needed > self.max {
            return Err(BufferError::TooLong { max: self.max });
        }
        let missing = needed.saturating_sub(self.reserved);
        let left = self.budget.get().checked_sub(missing).ok_or(BufferError::Exhausted)?;
        self.budget.set(left);
        self.reserved += missing;
        Ok(())
    }

    fn grow(&mut self, additional: usize) -> Result<&mut [u8], BufferError> {
        self.reserve(additional)?;
        let start = self.bytes.len();
        self.bytes.resize(start + additional, 0);
        Ok(&mut self.bytes[start..])
    }

    fn drop_front(&mut self, n: usize) {
        self.bytes.drain(..n);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.budget.set(self.budget.get() + std::mem::take(&mut self.reserved));
    }
}

/// Sends messages of one byte until the outbox is full; returns how many.
pub(crate) fn fill(out: &mut Outbox<'_>) -> usize {
    let mut sent = 0;
    loop {
        match out.send(b"x") {
            Ok(()) => sent += 1,
            Err(SendError::Full) => return sent,
            Err(error) => panic!("{error}"),
        }
    }
}
