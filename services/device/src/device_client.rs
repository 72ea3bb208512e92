//! The device's side of the protocol.

use core::time::Duration;

use countersign::{Instant, Remaining};

use crate::DEFAULT_INTERVAL;
use crate::app_id::AppId;
use crate::device_error::DeviceError;
use crate::imei::Imei;
use crate::kind::Kind;
use crate::message_prefix::MessagePrefix;
use crate::request::{Request, RequestBody};
use crate::response::Response;

/// How far the requests of one kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// None is planned.
    Idle,
    /// One is to be sent at this time.
    Due(Instant),
    /// One was sent at this time, and its response is awaited.
    Sent(Instant),
}

/// The device's side of one connection, from the end of the handshake. Make a new one for each
/// connection.
///
/// It registers. After the server has confirmed that, it requests the time, and sends a heartbeat every
/// interval. At most one request of each kind is outstanding: a heartbeat that is due while the last one
/// has no response waits for that response, or for its deadline.
///
/// ```text
/// each kind:   Idle ──▶ Due(at) ──poll_request, handle_sent──▶ Sent(at) ──handle_chunk──▶ Idle
///
/// Register:    Due at once; its response makes DateTime due at once, Heartbeat after an interval
/// Heartbeat:   its response makes the next one due, an interval after it was sent
/// ```
///
/// After every other call, send what [`poll_request`](Self::poll_request) returns, and check
/// [`error`](Self::error).
#[derive(Clone, Debug)]
pub struct DeviceClient {
    app_id: AppId,
    imei: Imei,
    interval: Duration,
    response_timeout: Duration,
    message: MessagePrefix<{ Response::MAX_LEN + 1 }>,
    /// By kind.
    stages: [Stage; Kind::ALL.len()],
    /// Returned by `poll_request` and not sent yet.
    sending: Option<Kind>,
    error: Option<DeviceError>,
}

impl DeviceClient {
    /// How long the server may take to respond, unless configured otherwise.
    pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

    /// The state of a new connection.
    #[must_use]
    pub const fn new(app_id: AppId, imei: Imei, now: Instant) -> Self {
        Self {
            app_id,
            imei,
            interval: DEFAULT_INTERVAL,
            response_timeout: Self::DEFAULT_RESPONSE_TIMEOUT,
            message: MessagePrefix::new(),
            stages: [Stage::Due(now), Stage::Idle, Stage::Idle],
            sending: None,
            error: None,
        }
    }

    /// Sets the time from one heartbeat to the next. A server ends the connection of a device that is
    /// silent for three of the server's own intervals.
    #[must_use]
    pub const fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// Sets how long the server may take to respond, counted from when the request was sent.
    #[must_use]
    pub const fn with_response_timeout(self, response_timeout: Duration) -> Self {
        Self { response_timeout, ..self }
    }

    /// Why the connection has failed, if it has: end it.
    #[must_use]
    pub const fn error(&self) -> Option<DeviceError> {
        self.error
    }

    /// The request to send now, the same until [`handle_sent`](Self::handle_sent).
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if self.error.is_some() {
            return None;
        }
        let due = |kind: &Kind| matches!(self.stages[*kind as usize], Stage::Due(at) if at <= now);
        let kind = self.sending.or_else(|| Kind::ALL.into_iter().find(due))?;
        self.sending = Some(kind);
        let body = match kind {
            Kind::Register => RequestBody::Register { app_id: self.app_id, imei: self.imei },
            Kind::Heartbeat => RequestBody::Heartbeat,
            Kind::DateTime => RequestBody::DateTime,
        };
        Some(Request { client_id: Request::CLIENT_ID, body })
    }

    /// Reports that the request that [`poll_request`](Self::poll_request) last returned was sent. Its
    /// response is awaited from now on.
    pub fn handle_sent(&mut self, now: Instant) {
        if let Some(kind) = self.sending.take() {
            self.stages[kind as usize] = Stage::Sent(now);
        }
    }

    /// Takes a chunk of a message, which `remaining` follows. Returns the response if the message is
    /// complete and a request of its kind is outstanding; it may have an error code.
    pub fn handle_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
        now: Instant,
    ) -> Option<Response> {
        let message = self.message.push(chunk, remaining)?;
        if self.error.is_some() {
            return None;
        }
        let parsed = Response::parse(message).and_then(|it| Ok((it, it.kind()?)));
        let (response, kind) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                self.error = Some(DeviceError::Malformed(error));
                return None;
            }
        };
        let Stage::Sent(sent) = self.stages[kind as usize] else {
            self.error = Some(DeviceError::Unexpected(kind));
            return None;
        };
        self.stages[kind as usize] = Stage::Idle;
        match (kind, response.code()) {
            (Kind::Register, 0) => {
                self.stages[Kind::DateTime as usize] = Stage::Due(now);
                self.schedule_heartbeat(now);
            }
            (Kind::Heartbeat, 0) => self.schedule_heartbeat(sent),
            // A server may have no clock.
            (Kind::DateTime, _) => {}
            (Kind::Register | Kind::Heartbeat, _) => self.error = Some(DeviceError::Refused(kind)),
        }
        Some(response)
    }

    /// Makes the next heartbeat due an interval after `at`.
    fn schedule_heartbeat(&mut self, at: Instant) {
        self.stages[Kind::Heartbeat as usize] = Stage::Due(at.saturating_add(self.interval));
    }

    /// Reports that [`poll_timeout`](Self::poll_timeout) has passed. Spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = |kind: &Kind| self.deadline(*kind).is_some_and(|at| at <= now);
        if self.error.is_none()
            && let Some(kind) = Kind::ALL.into_iter().find(late)
        {
            self.error = Some(DeviceError::NoResponse(kind));
        }
    }

    /// When the response of this kind has to have arrived.
    fn deadline(&self, kind: Kind) -> Option<Instant> {
        match self.stages[kind as usize] {
            Stage::Sent(at) => Some(at.saturating_add(self.response_timeout)),
            _ => None,
        }
    }

    /// When the next request is due, or a response is late.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.error.is_some() {
            return None;
        }
        let next = |kind| match self.stages[kind as usize] {
            // A request that waits for room in the outbox does not depend on time.
            Stage::Due(at) if self.sending.is_none() => Some(at),
            _ => self.deadline(kind),
        };
        Kind::ALL.into_iter().filter_map(next).min()
    }
}
