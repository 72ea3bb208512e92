//! A connection as an adapter drives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;

use countersign::{Candidates, Error, Instant, KeyRejection, KeyRequest, Outbox, Peer};
use countersign_driver::services::{Echo, Upper};
use countersign_driver::{
    Chunk, Failure, Flow, Interest, Keys, MessageService, Progress, ServiceConnection,
    ServiceError, StreamService,
};
use countersign_host::{BoxedProtocol, MessageBytes, MessageMemory};

use super::network::{Reset, Socket};
use crate::{Met, Ring, answer};

/// Keys that answer to whatever id they are asked for by.
struct OfAnyId<'a>(&'a Ring);

impl Keys for OfAnyId<'_> {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        answer(self.0, request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        peer.fingerprint.is_none()
            || self.0.as_ref().is_ok_and(|keys| keys.iter().any(|key| key.hold(peer)))
    }
}

/// A service of the server: of chunks or of whole messages.
#[derive(Debug)]
pub(crate) enum Answer {
    Echo(Echo),
    Upper(Upper),
    WholeEcho(MessageService<Echo, MessageBytes>),
    WholeUpper(MessageService<Upper, MessageBytes>),
}

impl Answer {
    pub(crate) fn new(upper: bool, whole: Option<&MessageMemory>) -> Self {
        match (upper, whole) {
            (false, None) => Self::Echo(Echo),
            (true, None) => Self::Upper(Upper),
            (false, Some(memory)) => Self::WholeEcho(memory.service(Echo)),
            (true, Some(memory)) => Self::WholeUpper(memory.service(Upper)),
        }
    }

    fn service(&mut self) -> &mut dyn StreamService {
        match self {
            Self::Echo(service) => service,
            Self::Upper(service) => service,
            Self::WholeEcho(service) => service,
            Self::WholeUpper(service) => service,
        }
    }

    fn service_ref(&self) -> &dyn StreamService {
        match self {
            Self::Echo(service) => service,
            Self::Upper(service) => service,
            Self::WholeEcho(service) => service,
            Self::WholeUpper(service) => service,
        }
    }
}

impl StreamService for Answer {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.service().on_open(peer, out, now);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.service().on_chunk(chunk, out, now)
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.service().on_writable(out, now);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.service().on_finished(out, now);
    }

    fn is_idle(&self) -> bool {
        self.service_ref().is_idle()
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.service().on_closed(result);
    }

    fn error(&self) -> Option<ServiceError> {
        self.service_ref().error()
    }
}

#[derive(Default)]
pub(crate) struct Woken(pub(crate) AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection, and what it waits for; `None` once it is over.
pub(crate) struct Driven<S> {
    /// Dropped when it is over, as adapters do: what it has leased goes back.
    pub(crate) connection: Option<ServiceConnection<BoxedProtocol, Watched<S>, Reset>>,
    pub(crate) wait: Option<Interest>,
    pub(crate) woken: Arc<Woken>,
    pub(crate) over: Option<(S, Ended)>,
    failed_at: Option<Instant>,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// In order, or why not.
    pub how: Result<(), Failure<Reset>>,
    /// Whom it met, if the handshake was ever over.
    pub met: Option<Met>,
    /// When it was known to have failed.
    pub failed_at: Option<Instant>,
    /// When it was over.
    pub at: Instant,
}

/// A service that notes whom it met, and is slow with the first part if it is to be.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    met: Option<Met>,
    hold: Hold,
}

/// For how long the first part is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    Not,
    For(Duration),
    Until(Instant),
}

impl<S: StreamService> StreamService for Watched<S> {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        assert!(self.met.replace((*peer).into()).is_none(), "it was opened twice");
        self.inner.on_open(peer, out, now);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        match self.hold {
            Hold::Not => self.inner.on_chunk(chunk, out, now),
            Hold::Until(_) => Flow::Backpressure,
            Hold::For(time) => {
                self.hold = Hold::Until(now.saturating_add(time));
                Flow::Backpressure
            }
        }
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.inner.on_writable(out, now);
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        match self.hold {
            Hold::Until(at) if at <= now => self.hold = Hold::Not,
            _ => self.inner.on_timeout(out, now),
        }
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.inner.on_finished(out, now);
    }

    fn is_idle(&self) -> bool {
        self.inner.is_idle()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self.hold {
            Hold::Until(at) => Some(at),
            _ => self.inner.poll_timeout(),
        }
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.inner.on_closed(why);
    }
}

impl<S: StreamService> Driven<S> {
    pub(crate) fn new(protocol: BoxedProtocol, inner: S, hold: Hold, woken: Arc<Woken>) -> Self {
        // The first turn needs no reason.
        let wait = Some(Interest { read: true, write: true, until: Some(Instant::EPOCH) });
        let service = Watched { inner, met: None, hold };
        let connection = Some(ServiceConnection::new(protocol, service));
        Self { connection, wait, woken, over: None, failed_at: None }
    }

    /// Takes a turn if there is a reason to.
    pub(crate) fn turn(&mut self, socket: &mut Socket<'_>, ring: &Ring) -> bool {
        let (Some(wait), Some(connection)) = (self.wait, &mut self.connection) else {
            return false;
        };
        let woken = self.woken.0.swap(false, Ordering::Relaxed);
        let due = woken
            || (wait.read && socket.inbound.is_readable(socket.now))
            || (wait.write && socket.outbound.is_writable(socket.quality))
            || wait.until.is_some_and(|at| at <= socket.now);
        if !due {
            return false;
        }
        if woken {
            connection.wake();
        }
        let progress = loop {
            match connection.poll(socket, &OfAnyId(ring), socket.now) {
                Progress::Event(_) => {}
                progress => break progress,
            }
        };
        self.wait = match progress {
            Progress::Event(_) | Progress::Yield => {
                Some(Interest { until: Some(Instant::EPOCH), ..wait })
            }
            Progress::Wait(wait) => Some(wait),
            Progress::Closed(how) => {
                let at = socket.now;
                let failed_at = self.failed_at.or(how.is_err().then_some(at));
                self.over =
                    self.connection.take().map(ServiceConnection::into_service).map(|service| {
                        (service.inner, Ended { how, met: service.met, failed_at, at })
                    });
                None
            }
        };
        let failed = self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.driver().error().is_some());
        if failed && self.failed_at.is_none() {
            self.failed_at = Some(socket.now);
        }
        true
    }

    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.wait?.until.filter(|at| *at > now)
    }
}
