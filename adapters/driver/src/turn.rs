//! The turn: what every adapter does between two waits.

use core::fmt;
use core::ops::DerefMut;
use core::time::Duration;

use countersign::{
    CloseReason, Error, Event, Instant, KeyRejection, Outbox, Peer, Protocol, Remaining,
};

use crate::io::Io;
use crate::service::{Chunk, Flow, Keys, Service};

/// Rounds of one turn, each at most one buffer read: then it is another connection's turn.
const ROUNDS: usize = 8;
/// How long a connection that is to stop has to be idle: bytes may be on their way.
const QUIET: Duration = Duration::from_millis(100);
/// How long a closing connection waits for the peer's end of stream.
const LINGER: Duration = Duration::from_secs(1);
/// Rounds to read what a peer had sent before writing to it failed; then it is lost.
const BROKEN_ROUNDS: usize = 64;
/// How much of the peer's input it throws away meanwhile, in bytes.
const DISCARD: usize = 256 << 10;
/// How much of it at a time: it is on the stack, of which a microcontroller has little.
const SCRATCH: usize = 1024;

/// A machine and its service on one connection, driven turn by turn.
///
/// After an error the connection is not closed at once: closing with unread input makes most
/// systems send a reset, which destroys what was sent last. What is queued is written, the write
/// side shut, and input thrown away until the peer's end of stream, 1 s or 256 KiB.
#[derive(Debug)]
pub struct Connection<M, S> {
    machine: M,
    service: S,
    stage: Stage,
    established: bool,
    woken: bool,
    stop: Stop,
    /// Our write side is shut.
    shut: bool,
    /// The peer's is.
    eof: bool,
}

/// How far an orderly stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    No,
    /// Something is under way.
    Asked,
    /// Nothing has been since the moment before this one by [`QUIET`].
    Quiet(Instant),
    /// We have finished, and the peer has until then to agree.
    Finished(Instant),
}

impl Stop {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::No | Self::Asked => None,
            Self::Quiet(at) | Self::Finished(at) => Some(at),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// `blocked`: a part that the service has not dealt with.
    Live {
        blocked: Option<(bool, Remaining)>,
    },
    /// It failed, or it is over and only the peer's end of stream is missing. Input is thrown away,
    /// at most `left` bytes, from when all is written until `until`.
    Ending {
        how: Result<(), Error>,
        until: Option<Instant>,
        left: usize,
    },
    Over,
}

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure<E> {
    /// The transport did.
    Io(E),
    /// The protocol did.
    Protocol(Error),
}

impl<E: fmt::Display> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Protocol(error) => error.fmt(f),
        }
    }
}

impl<E: core::error::Error> core::error::Error for Failure<E> {}

/// What a turn came to.
#[derive(Debug)]
pub enum Progress<E> {
    /// There is more to do at once, but others should have their turn first.
    Yield,
    /// Nothing to do until something happens.
    Wait(Wait),
    /// The connection is over: drop the transport.
    Closed(Result<(), Failure<E>>),
}

/// What to wait for: any of these, or a wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Bytes to read.
    pub read: bool,
    /// Room to write, or that what was written leaves.
    pub write: bool,
    /// A moment.
    pub until: Option<Instant>,
}

impl<M: DerefMut<Target: Protocol>, S: Service> Connection<M, S> {
    /// A connection at its beginning.
    pub fn new(machine: M, service: S) -> Self {
        Self {
            machine,
            service,
            stage: Stage::Live { blocked: None },
            established: false,
            woken: false,
            stop: Stop::No,
            shut: false,
            eof: false,
        }
    }

    /// Whether the handshake was ever over.
    pub fn established(&self) -> bool {
        self.established
    }

    /// Why it failed, as soon as that is known; the peer may still be taking leave of it.
    pub fn error(&self) -> Option<Error> {
        match self.stage {
            Stage::Ending { how, .. } => how.err(),
            Stage::Live { .. } | Stage::Over => None,
        }
    }

    /// The part that the service has not dealt with, for whoever holds the connection to deal with
    /// instead: see [`Desk`](crate::services::Desk). It stays until [`consume`](Self::consume), or
    /// until the connection ends.
    pub fn chunk(&mut self) -> Option<Chunk<'_>> {
        let Stage::Live { blocked: Some((first, remaining)) } = self.stage else { return None };
        Some(Chunk { bytes: self.machine.split().0, first, remaining })
    }

    /// Done with that part. Take a turn afterwards.
    pub fn consume(&mut self, now: Instant) {
        if let Stage::Live { blocked: blocked @ Some(_) } = &mut self.stage {
            *blocked = None;
            self.machine.consume(now);
        }
    }

    /// Where to send, for whoever holds the connection. Take a turn afterwards.
    pub fn outbox(&mut self) -> Outbox<'_> {
        self.machine.split().1
    }

    /// What waits to be written, for a transport that can only be written to while waiting: its
    /// [`Io::write`] has nothing to say but `None`. It is stale after any other call.
    pub fn transmit(&mut self, now: Instant) -> &[u8] {
        self.machine.poll_transmit(now)
    }

    /// The first `n` bytes of the last [`transmit`](Self::transmit) were written. Take a turn
    /// afterwards.
    pub fn transmitted(&mut self, n: usize, now: Instant) {
        self.machine.handle_transmitted(n, now);
    }

    /// Who the peer is, once the handshake is over.
    pub fn peer(&self) -> Option<Peer<'_>> {
        self.machine.peer()
    }

    /// Ends the connection if it was authenticated by a key that is not among `keys`; whether it
    /// was. Take a turn afterwards.
    pub fn revoke<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> bool {
        let revoked = self.is_live() && self.machine.peer().is_some_and(|peer| !keys.hold(&peer));
        if revoked {
            self.machine.abort(CloseReason::Application, now);
        }
        revoked
    }

    /// The service.
    pub fn service(&self) -> &S {
        &self.service
    }

    /// The service, to give it something to do: [`wake`](Self::wake) and take a turn afterwards.
    pub fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// The service, when the connection is over.
    pub fn into_service(self) -> S {
        self.service
    }

    /// The connection's waker was woken: the next turn tells the service.
    pub fn wake(&mut self) {
        self.woken = true;
    }

    /// Whether it was woken since its last turn.
    pub fn is_woken(&self) -> bool {
        self.woken
    }

    /// Ends the connection as soon as nothing is under way: what the peer has begun to send is
    /// read and answered first, a handshake is given up. Take a turn afterwards.
    pub fn stop(&mut self) {
        if self.stop == Stop::No {
            self.stop = Stop::Asked;
        }
    }

    /// Does whatever can be done without waiting.
    pub fn turn<I: Io, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
    ) -> Progress<I::Error> {
        let given_up = match self.stop {
            Stop::No => false,
            Stop::Asked | Stop::Quiet(_) => !self.established,
            Stop::Finished(until) => until <= now,
        };
        if given_up {
            self.machine.abort(CloseReason::Shutdown, now);
        }
        let opening = !self.established;
        let mut late = true;
        let mut broken = None;
        // What is written tells the peer what of its own has arrived.
        let mut answered = false;
        let mut rounds = 0;
        loop {
            let mut moved = self.events(keys, now);
            let mut wait = Wait { read: false, write: false, until: None };

            while broken.is_none() {
                let bytes = self.machine.poll_transmit(now);
                if bytes.is_empty() {
                    match io.flush() {
                        Ok(flushed) => wait.write = !flushed,
                        Err(error) => broken = Some(error),
                    }
                    break;
                }
                match io.write(bytes) {
                    Ok(Some(n)) if n > 0 => {
                        self.machine.handle_transmitted(n, now);
                        (moved, answered) = (true, true);
                    }
                    Ok(_) => {
                        // Nor may what has been written before have left.
                        (wait.write, answered) = (true, false);
                        break;
                    }
                    // The peer takes no more, but what it has sent can still be read.
                    Err(error) => broken = Some(error),
                }
            }

            match self.read(io, now) {
                Ok(Read::Moved) => (moved, answered) = (true, false),
                Ok(Read::Blocked) => wait.read = true,
                Ok(Read::Unwanted) => {}
                Err(error) => return self.lost(error),
            }
            if !moved && let Some(error) = broken {
                return self.lost(error);
            }
            if !moved && (wait.read || !self.machine.wants_read()) {
                moved |= self.stop_if_idle(now);
            } else if let Stop::Quiet(_) = self.stop {
                self.stop = Stop::Asked;
            }

            if broken.is_none() && self.machine.wants_shutdown() && !self.shut {
                self.shut = true;
                match io.shut_write().and_then(|()| io.flush()) {
                    Ok(flushed) => wait.write = !flushed,
                    Err(error) => return self.lost(error),
                }
            }
            rounds += 1;
            let spent = rounds >= ROUNDS;
            // Deadlines come last, lest the peer pay for the time in which nobody took a turn, and
            // once a turn, lest its bytes put them off.
            if late && (spent || !moved) {
                late = false;
                moved |= self.timeouts(keys, now);
            }
            if let Some(over) = self.end(!wait.write, now) {
                return Progress::Closed(over.map_err(Failure::Protocol));
            }
            if !moved {
                // A peer may hold back the rest of a message until what it sent of it has been
                // acknowledged, and its first message until the handshake's last has.
                let opened = opening && self.established;
                if wait.read && !answered && (opened || self.machine.is_receiving()) {
                    io.acknowledge();
                }
                wait.until = self.poll_timeout();
                return Progress::Wait(wait);
            }
            match broken.take() {
                // There is no second turn for it, so what the peer had sent is read in this one.
                Some(error) if rounds >= BROKEN_ROUNDS => return self.lost(error),
                Some(error) => broken = Some(error),
                None if spent => return Progress::Yield,
                None => {}
            }
        }
    }

    /// The stage that follows when it is known `how` the connection ended.
    fn ending(&self, how: Result<(), Error>) -> Stage {
        // Who had its time to agree has no more to take its leave.
        let until = match self.stop {
            Stop::Finished(until) => Some(until),
            _ => None,
        };
        Stage::Ending { how, until, left: DISCARD }
    }

    fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live { .. })
    }

    /// When the service wants to be called, if it can be.
    fn service_timeout(&self) -> Option<Instant> {
        if self.established && self.is_live() { self.service.poll_timeout() } else { None }
    }

    /// If we are to stop, and the peer has sent nothing that we have not read: finishes if nothing
    /// has been under way for long enough. Returns whether it did.
    fn stop_if_idle(&mut self, now: Instant) -> bool {
        let before = self.stop;
        let idle = self.machine.is_idle() && self.service.is_idle();
        self.stop = match self.stop {
            Stop::Asked | Stop::Quiet(_) if !idle => Stop::Asked,
            Stop::Asked => Stop::Quiet(now.saturating_add(QUIET)),
            Stop::Quiet(at) if at <= now => {
                self.machine.finish(now);
                Stop::Finished(now.saturating_add(LINGER))
            }
            other => other,
        };
        self.stop != before && matches!(self.stop, Stop::Finished(_))
    }

    /// Lets the deadlines pass that are due. Returns whether one was.
    fn timeouts<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> bool {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let machine = due(self.machine.poll_timeout());
        if machine {
            self.machine.handle_timeout(now);
            self.poll(keys, now);
        }
        let service = due(self.service_timeout());
        if service {
            self.service.on_timeout(&mut self.machine.split().1, now);
            self.retry(now);
        }
        machine || service
    }

    /// Hands the service all there is. Returns whether anything happened.
    fn events<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> bool {
        // First: a part that is at hand is gone if the machine has failed meanwhile.
        let mut moved = self.poll(keys, now);
        if self.established && core::mem::take(&mut self.woken) && self.is_live() {
            self.service.on_wake(&mut self.machine.split().1, now);
            moved |= self.retry(now);
            moved |= self.poll(keys, now);
        }
        moved
    }

    /// Hands the service all events there are. Returns whether there were any.
    fn poll<K: Keys + ?Sized>(&mut self, keys: &K, now: Instant) -> bool {
        let mut moved = false;
        while self.is_live() {
            match self.machine.poll_event(now) {
                Ok(Some(event)) => {
                    moved = true;
                    self.event(event, keys, now);
                }
                Ok(None) => break,
                Err(error) => {
                    moved = true;
                    self.stage = self.ending(Err(error));
                    self.service.on_closed(Err(error));
                }
            }
        }
        moved
    }

    fn event<K: Keys + ?Sized>(&mut self, event: Event, keys: &K, now: Instant) {
        match event {
            Event::KeyNeeded => {
                let answer = match self.machine.key_request() {
                    Some(request) => keys.candidates(&request),
                    None => Err(KeyRejection::Unknown),
                };
                if self.machine.provide_key(answer, now).is_err() {
                    // Whoever holds the keys made one for another use: the same as none.
                    let _ = self.machine.provide_key(Err(KeyRejection::Unknown), now);
                }
            }
            // The key may have gone while the handshake ended.
            Event::Established if self.revoke(keys, now) => {}
            Event::Established => {
                self.established = true;
                if let Some((peer, mut out)) = self.machine.split_peer() {
                    self.service.on_open(&peer, &mut out, now);
                }
            }
            Event::Chunk { first, remaining } if self.offer(first, remaining, now) => {}
            Event::Chunk { first, remaining } => {
                self.stage = Stage::Live { blocked: Some((first, remaining)) };
            }
            Event::Writable => {
                self.service.on_writable(&mut self.machine.split().1, now);
                self.retry(now);
            }
            Event::PeerFinished => self.service.on_finished(&mut self.machine.split().1, now),
            Event::Closed => {
                // With input unread, closing could destroy what the peer has not read yet.
                self.stage = match self.eof {
                    true => Stage::Ending { how: Ok(()), until: None, left: 0 },
                    false => self.ending(Ok(())),
                };
                self.service.on_closed(Ok(()));
            }
            _ => {}
        }
    }

    /// Offers the service again what it has not dealt with. Returns whether it now has.
    fn retry(&mut self, now: Instant) -> bool {
        let Stage::Live { blocked: Some((first, remaining)) } = self.stage else { return false };
        let done = self.offer(first, remaining, now);
        if done {
            self.stage = Stage::Live { blocked: None };
        }
        done
    }

    /// Offers the service the part at hand. Returns whether it was dealt with.
    fn offer(&mut self, first: bool, remaining: Remaining, now: Instant) -> bool {
        // Not taken apart: moving the outbox would cost as much as finding the part did.
        let mut split = self.machine.split();
        let chunk = Chunk { bytes: split.0, first, remaining };
        let done = self.service.on_message(chunk, &mut split.1, now) == Flow::Consumed;
        if done {
            self.machine.consume(now);
        }
        done
    }

    fn read<I: Io>(&mut self, io: &mut I, now: Instant) -> Result<Read, I::Error> {
        if let Stage::Ending { left, .. } = &mut self.stage {
            if *left == 0 {
                return Ok(Read::Unwanted);
            }
            let mut scratch = [0; SCRATCH];
            return Ok(match io.read(&mut scratch)? {
                None => Read::Blocked,
                Some(0) => {
                    *left = 0;
                    Read::Moved
                }
                Some(n) => {
                    *left = left.saturating_sub(n);
                    Read::Moved
                }
            });
        }
        if !io.may_read() && self.machine.wants_read() {
            return Ok(Read::Blocked);
        }
        let space = self.machine.recv_space();
        if space.is_empty() {
            return Ok(Read::Unwanted);
        }
        let read = io.read(space);
        let n = read.as_ref().ok().copied().flatten().unwrap_or(0);
        self.machine.handle_received(n, now);
        Ok(match read? {
            None => Read::Blocked,
            Some(0) => {
                self.eof = true;
                self.machine.handle_eof(now);
                Read::Moved
            }
            Some(_) => Read::Moved,
        })
    }

    /// Ends the connection here and now, with no last word; the service is told. Nothing if it has
    /// ended.
    pub fn abandon(&mut self) {
        self.abandon_for(CloseReason::Shutdown);
    }

    /// As [`abandon`](Self::abandon), for another reason.
    pub fn abandon_for(&mut self, why: CloseReason) {
        if let Stage::Live { .. } = core::mem::replace(&mut self.stage, Stage::Over) {
            self.service.on_closed(Err(Error::Aborted(why)));
        }
    }

    /// The transport has failed; so, then, has the connection. For whoever finds out between turns:
    /// a turn finds out by itself.
    pub fn lost<E>(&mut self, error: E) -> Progress<E> {
        match core::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Live { .. } => {
                self.service.on_closed(Err(Error::Transport));
                Progress::Closed(Err(Failure::Io(error)))
            }
            Stage::Ending { how, .. } => Progress::Closed(how.map_err(Failure::Protocol)),
            Stage::Over => Progress::Closed(Ok(())),
        }
    }

    /// How the connection ended, once it has. `flushed`: all that was written has left.
    fn end(&mut self, flushed: bool, now: Instant) -> Option<Result<(), Error>> {
        match &mut self.stage {
            Stage::Live { .. } => None,
            Stage::Over => Some(Ok(())),
            Stage::Ending { how, until, left } => {
                // Its time was set before all is written only where it had it before: an orderly stop.
                if !self.machine.is_done() && until.is_none_or(|until| now < until) {
                    return None;
                }
                let until = *until.get_or_insert(now.saturating_add(LINGER));
                ((*left == 0 && flushed) || until <= now).then_some(*how)
            }
        }
    }

    /// When to take a turn though nothing has happened.
    fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.stage {
            Stage::Live { .. } => self.stop.deadline(),
            Stage::Ending { until, .. } => until,
            Stage::Over => None,
        };
        [self.machine.poll_timeout(), own, self.service_timeout()].into_iter().flatten().min()
    }
}

/// What an attempt to read came to.
enum Read {
    Moved,
    Blocked,
    Unwanted,
}
