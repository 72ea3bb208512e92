//! A connection, driven as an adapter drives it.

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
use crate::{KeySet, PeerInfo, candidates};

/// Keys for any key id.
struct AnyKeyId<'a>(&'a KeySet);

impl Keys for AnyKeyId<'_> {
    fn candidates(&self, request: &KeyRequest<'_>) -> Result<Candidates<'_>, KeyRejection> {
        candidates(self.0, request)
    }

    fn hold(&self, peer: &Peer<'_>) -> bool {
        peer.fingerprint.is_none()
            || self.0.as_ref().is_ok_and(|keys| keys.iter().any(|key| key.hold(peer)))
    }
}

/// A service of the server. It receives chunks or whole messages.
#[derive(Debug)]
pub(crate) enum ServerService {
    Echo(Echo),
    Upper(Upper),
    EchoMessages(MessageService<Echo, MessageBytes>),
    UpperMessages(MessageService<Upper, MessageBytes>),
}

impl ServerService {
    pub(crate) fn new(upper: bool, messages: Option<&MessageMemory>) -> Self {
        match (upper, messages) {
            (false, None) => Self::Echo(Echo),
            (true, None) => Self::Upper(Upper),
            (false, Some(memory)) => Self::EchoMessages(memory.service(Echo)),
            (true, Some(memory)) => Self::UpperMessages(memory.service(Upper)),
        }
    }

    fn service(&mut self) -> &mut dyn StreamService {
        match self {
            Self::Echo(service) => service,
            Self::Upper(service) => service,
            Self::EchoMessages(service) => service,
            Self::UpperMessages(service) => service,
        }
    }

    fn service_ref(&self) -> &dyn StreamService {
        match self {
            Self::Echo(service) => service,
            Self::Upper(service) => service,
            Self::EchoMessages(service) => service,
            Self::UpperMessages(service) => service,
        }
    }
}

impl StreamService for ServerService {
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

/// Set when the connection is woken.
#[derive(Default)]
pub(crate) struct WakeFlag(pub(crate) AtomicBool);

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection, and what it waits for.
pub(crate) struct Connection<S> {
    /// Dropped at its end, as adapters do, so that its leases return to the pools.
    pub(crate) connection: Option<ServiceConnection<BoxedProtocol, RecordingService<S>, Reset>>,
    /// `None` after its end.
    pub(crate) interest: Option<Interest>,
    pub(crate) wake_flag: Arc<WakeFlag>,
    pub(crate) end: Option<(S, ConnectionEnd)>,
    failed_at: Option<Instant>,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub struct ConnectionEnd {
    /// In order, or the failure.
    pub result: Result<(), Failure<Reset>>,
    /// What it knew about its peer, if the handshake was complete.
    pub peer: Option<PeerInfo>,
    /// When the failure was detected.
    pub failed_at: Option<Instant>,
    /// When the connection ended.
    pub at: Instant,
}

/// Records the peer, and holds the first chunk for the time in `hold`.
#[derive(Debug)]
pub(crate) struct RecordingService<S> {
    inner: S,
    peer: Option<PeerInfo>,
    hold: Hold,
}

/// How long the first chunk is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    Not,
    For(Duration),
    Until(Instant),
}

impl<S: StreamService> StreamService for RecordingService<S> {
    fn on_open(&mut self, peer: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        assert!(self.peer.replace((*peer).into()).is_none(), "on_open was called twice");
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

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.inner.on_closed(result);
    }
}

impl<S: StreamService> Connection<S> {
    pub(crate) fn new(
        protocol: BoxedProtocol,
        inner: S,
        hold: Hold,
        wake_flag: Arc<WakeFlag>,
    ) -> Self {
        // The first poll needs no reason.
        let interest = Some(Interest { read: true, write: true, until: Some(Instant::EPOCH) });
        let service = RecordingService { inner, peer: None, hold };
        let connection = Some(ServiceConnection::new(protocol, service));
        Self { connection, interest, wake_flag, end: None, failed_at: None }
    }

    /// Polls the connection if there is a reason to. Returns whether there was.
    pub(crate) fn poll(&mut self, socket: &mut Socket<'_>, keys: &KeySet) -> bool {
        let (Some(interest), Some(connection)) = (self.interest, &mut self.connection) else {
            return false;
        };
        let woken = self.wake_flag.0.swap(false, Ordering::Relaxed);
        let due = woken
            || (interest.read && socket.inbound.is_readable(socket.now))
            || (interest.write && socket.outbound.is_writable(socket.link))
            || interest.until.is_some_and(|at| at <= socket.now);
        if !due {
            return false;
        }
        if woken {
            connection.wake();
        }
        let progress = loop {
            match connection.poll(socket, &AnyKeyId(keys), socket.now) {
                Progress::Event(_) => {}
                progress => break progress,
            }
        };
        self.interest = match progress {
            Progress::Event(_) | Progress::Yield => {
                Some(Interest { until: Some(Instant::EPOCH), ..interest })
            }
            Progress::Wait(interest) => Some(interest),
            Progress::Closed(result) => {
                let at = socket.now;
                let failed_at = self.failed_at.or(result.is_err().then_some(at));
                self.end =
                    self.connection.take().map(ServiceConnection::into_service).map(|service| {
                        (service.inner, ConnectionEnd { result, peer: service.peer, failed_at, at })
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

    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.interest?.until.filter(|at| *at > now)
    }
}
