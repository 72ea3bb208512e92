//! The server's side of the protocol.

use core::fmt;
use core::time::Duration;

use countersign::{Instant, Remaining};

use crate::app_id::AppId;
use crate::date_time::DateTime;
use crate::device_error::DeviceError;
use crate::imei::Imei;
use crate::message_error::MessageError;
use crate::message_prefix::MessagePrefix;
use crate::request::{Request, RequestBody};
use crate::response::Response;

/// Intervals of silence after which the server ends a connection.
const SILENT_INTERVALS: u32 = 3;

/// A request of the device, as [`DeviceServer::handle_chunk`] reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceEvent {
    /// The device registers, or registers again with the same IMEI. Call [`DeviceServer::accept`] or
    /// [`DeviceServer::reject`].
    Register {
        /// The application that the device runs.
        app_id: AppId,
        /// The device.
        imei: Imei,
    },
    /// The device requests the time. Call [`DeviceServer::provide_time`] or [`DeviceServer::reject`].
    DateTime,
    /// The device is alive. The response is ready.
    Heartbeat,
    /// The request was rejected. The response is ready.
    Rejected {
        /// The id in the message, or [`Response::NO_ID`].
        id: i8,
        /// Why.
        reason: Rejection,
    },
}

/// Why the server responds to a request with an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// The message is not a request.
    Malformed(MessageError),
    /// The device requested the time before it registered.
    NotRegistered,
    /// The device has registered with another IMEI on this connection.
    OtherImei,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::NotRegistered => {
                f.write_str("the device requested the time and has not registered")
            }
            Self::OtherImei => f.write_str("the device has registered with another IMEI before"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitRequest,
    /// The application decides what to respond.
    AwaitDecision(RequestBody),
    Responding(Response),
    /// The device was silent for too long.
    Silent,
}

/// The server's side of one connection, from the end of the handshake.
///
/// It takes one request at a time and responds to each. A device that has not registered may send
/// heartbeats only. A device that has registered may register again with the same IMEI. Every whole
/// message shows that the device is alive.
///
/// ```text
///              handle_chunk                accept, reject, provide_time
/// AwaitRequest ────────────▶ AwaitDecision ────────────────────────────▶ Responding
///    ▲  │  └───────────────────────────────────────────────────────────▶   │
///    │  │       handle_chunk: a heartbeat, or a rejected request           │
///    │  │ handle_timeout                                                   │
///    │  └─────────────▶ Silent                                             │
///    └─────────────────────────────────────────────────────────────────────┘
///                                  handle_sent
/// ```
#[derive(Clone, Debug)]
pub struct DeviceServer {
    timeout: Duration,
    message: MessagePrefix<{ Request::MAX_LEN + 1 }>,
    state: State,
    registered: Option<Imei>,
    /// When the device counts as silent.
    silent_at: Instant,
}

impl DeviceServer {
    /// The state of a new connection. A device that sends nothing for three times `interval` counts as
    /// silent.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        let timeout = interval.saturating_mul(SILENT_INTERVALS);
        Self {
            timeout,
            message: MessagePrefix::new(),
            state: State::AwaitRequest,
            registered: None,
            silent_at: now.saturating_add(timeout),
        }
    }

    /// The IMEI that the device has registered with.
    #[must_use]
    pub const fn registered(&self) -> Option<Imei> {
        self.registered
    }

    /// Why the connection has to be ended, if it has to.
    #[must_use]
    pub fn error(&self) -> Option<DeviceError> {
        (self.state == State::Silent).then_some(DeviceError::Silent)
    }

    /// Whether chunks are taken: the response to the last request was sent.
    #[must_use]
    pub fn is_awaiting_request(&self) -> bool {
        self.state == State::AwaitRequest
    }

    /// Takes a chunk of a message, which `remaining` follows. Returns the request if the message is
    /// complete. Ignores the chunk unless [`is_awaiting_request`](Self::is_awaiting_request): pass it
    /// again later.
    pub fn handle_chunk(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
        now: Instant,
    ) -> Option<DeviceEvent> {
        if !self.is_awaiting_request() {
            return None;
        }
        let message = self.message.push(chunk, remaining)?;
        self.silent_at = now.saturating_add(self.timeout);
        let id = message.get(1).map_or(Response::NO_ID, |id| id.cast_signed());
        let rejected =
            |reason| (State::Responding(Response::error(id)), DeviceEvent::Rejected { id, reason });
        let (state, event) = match Request::parse(message) {
            Err(error) => rejected(Rejection::Malformed(error)),
            Ok(Request { body, .. }) => match body {
                RequestBody::Heartbeat => {
                    (State::Responding(Response::heartbeat()), DeviceEvent::Heartbeat)
                }
                RequestBody::DateTime if self.registered.is_none() => {
                    rejected(Rejection::NotRegistered)
                }
                RequestBody::DateTime => (State::AwaitDecision(body), DeviceEvent::DateTime),
                RequestBody::Register { imei, .. }
                    if self.registered.is_some_and(|registered| registered != imei) =>
                {
                    rejected(Rejection::OtherImei)
                }
                RequestBody::Register { app_id, imei } => {
                    (State::AwaitDecision(body), DeviceEvent::Register { app_id, imei })
                }
            },
        };
        self.state = state;
        Some(event)
    }

    /// Confirms a registration. Does nothing if none is awaiting a decision.
    pub fn accept(&mut self) {
        if let State::AwaitDecision(RequestBody::Register { imei, .. }) = self.state {
            self.registered = Some(imei);
            self.state = State::Responding(Response::registered());
        }
    }

    /// Responds with the time. Does nothing if no request for it is awaiting a decision.
    pub fn provide_time(&mut self, time: DateTime) {
        if self.state == State::AwaitDecision(RequestBody::DateTime) {
            self.state = State::Responding(Response::date_time(time));
        }
    }

    /// Responds with an error. Does nothing if no request is awaiting a decision.
    pub fn reject(&mut self) {
        if let State::AwaitDecision(body) = self.state {
            self.state = State::Responding(Response::error(body.kind().id()));
        }
    }

    /// The response to send, the same until [`handle_sent`](Self::handle_sent).
    #[must_use]
    pub fn poll_response(&self) -> Option<Response> {
        match self.state {
            State::Responding(response) => Some(response),
            _ => None,
        }
    }

    /// Reports that the response was sent. The device's silence counts from now.
    pub fn handle_sent(&mut self, now: Instant) {
        if let State::Responding(_) = self.state {
            self.state = State::AwaitRequest;
            self.silent_at = now.saturating_add(self.timeout);
        }
    }

    /// Reports that [`poll_timeout`](Self::poll_timeout) has passed. Spurious calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.state = State::Silent;
        }
    }

    /// When the device counts as silent. `None` while a response is due: the delay is ours.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.is_awaiting_request().then_some(self.silent_at)
    }
}
