//! Runs a service on one connection.

use core::ops::DerefMut;

use countersign::{CloseReason, Error, Event, Instant, Protocol};

use crate::chunk::Chunk;
use crate::driver::{Driver, Progress};
use crate::io::Io;
use crate::keys::Keys;
use crate::stream_service::{Flow, StreamService};

/// A [`Driver`] and the [`StreamService`] that handles its events.
#[derive(Debug)]
pub struct ServiceConnection<P, S, E> {
    driver: Driver<P, E>,
    service: S,
    woken: bool,
    /// The service refused the chunk at hand.
    blocked: bool,
    /// `on_closed` was called.
    closed: bool,
}

impl<P: DerefMut<Target: Protocol>, S: StreamService, E> ServiceConnection<P, S, E> {
    /// A connection at its beginning.
    pub fn new(protocol: P, service: S) -> Self {
        let driver = Driver::new(protocol);
        Self { driver, service, woken: false, blocked: false, closed: false }
    }

    /// Makes progress until nothing more can be done now, with the service handling all events but
    /// [`Event::Established`], which is also returned, for callers that keep records of connections.
    ///
    /// Poll again at once after an event.
    pub fn poll<I: Io<Error = E>, K: Keys + ?Sized>(
        &mut self,
        io: &mut I,
        keys: &K,
        now: Instant,
    ) -> Progress<E> {
        let mut timed = false;
        loop {
            match self.driver.poll_event(keys, now) {
                Some(Event::Chunk { first, remaining }) => {
                    let (bytes, mut out) = self.driver.split_bytes();
                    let chunk = Chunk { bytes, first, remaining };
                    let flow = self.service.on_chunk(chunk, &mut out, now);
                    self.note_flow(flow, now);
                    continue;
                }
                Some(event) => {
                    self.handle_event(event, now);
                    if event == Event::Established {
                        return Progress::Event(event);
                    }
                    continue;
                }
                None => {}
            }
            self.report_error();
            // After the events: a chunk at hand is gone if the session has failed meanwhile.
            if self.woken && self.can_call() {
                self.woken = false;
                self.service.on_wake(&mut self.driver.outbox(), now);
                self.retry(now);
                continue;
            }
            self.driver.set_busy(!self.service.is_idle());
            let Some(progress) = self.driver.poll_io(io, now, false) else { continue };
            if let Progress::Closed(_) = progress {
                self.report_closed(Err(Error::Transport));
                return progress;
            }
            // Deadlines run last, as the driver's do, and once a poll.
            if !timed && self.service_timeout().is_some_and(|at| at <= now) {
                timed = true;
                self.service.on_timeout(&mut self.driver.outbox(), now);
                self.retry(now);
                continue;
            }
            return match progress {
                Progress::Wait(interest) => {
                    Progress::Wait(interest.until_at_most(self.service_timeout()))
                }
                progress => progress,
            };
        }
    }

    /// Passes an event other than a chunk on.
    #[cold]
    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Established => {
                if let Some((peer, mut out)) = self.driver.split_peer() {
                    self.service.on_open(&peer, &mut out, now);
                }
            }
            Event::Writable => {
                self.service.on_writable(&mut self.driver.outbox(), now);
                self.retry(now);
            }
            Event::PeerFinished => self.service.on_finished(&mut self.driver.outbox(), now),
            Event::Closed => self.report_closed(Ok(())),
            _ => {}
        }
    }

    /// Acts on what the service did with the chunk at hand.
    fn note_flow(&mut self, flow: Flow, now: Instant) {
        self.blocked = flow == Flow::Backpressure;
        if flow == Flow::Consumed {
            self.driver.consume(now);
        }
    }

    /// Offers the service again what it refused, if that is still at hand.
    fn retry(&mut self, now: Instant) {
        if !self.blocked {
            return;
        }
        match self.driver.split() {
            (Some(chunk), mut out) => {
                let flow = self.service.on_chunk(chunk, &mut out, now);
                self.note_flow(flow, now);
            }
            (None, _) => self.blocked = false,
        }
    }

    /// Whether the service may be called.
    fn can_call(&self) -> bool {
        self.driver.is_established() && self.driver.is_open()
    }

    fn service_timeout(&self) -> Option<Instant> {
        if self.can_call() { self.service.poll_timeout() } else { None }
    }

    /// Reports an error of the session to the service, once.
    fn report_error(&mut self) {
        if let Some(error) = self.driver.error() {
            self.report_closed(Err(error));
        }
    }

    fn report_closed(&mut self, result: Result<(), Error>) {
        if !core::mem::replace(&mut self.closed, true) {
            self.service.on_closed(result);
        }
    }

    /// The driver.
    pub const fn driver(&self) -> &Driver<P, E> {
        &self.driver
    }

    /// The driver. Poll afterwards.
    pub const fn driver_mut(&mut self) -> &mut Driver<P, E> {
        &mut self.driver
    }

    /// The service.
    pub const fn service(&self) -> &S {
        &self.service
    }

    /// The service. [`wake`](Self::wake) it and poll after giving it something to do.
    pub const fn service_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// The service, when the connection is over.
    pub fn into_service(self) -> S {
        self.service
    }

    /// Reports that the waker of the connection was woken: the next poll calls
    /// [`StreamService::on_wake`].
    pub const fn wake(&mut self) {
        self.woken = true;
    }

    /// Ends the connection at once, without notifying the peer. Calls `on_closed` of the service.
    pub fn abandon(&mut self, why: CloseReason) {
        if self.driver.abandon() {
            self.report_closed(Err(Error::Aborted(why)));
        }
    }

    /// Reports that the transport failed between polls.
    pub fn transport_failed(&mut self, error: E) -> Progress<E> {
        let progress = self.driver.transport_failed(error);
        self.report_closed(Err(Error::Transport));
        progress
    }
}
