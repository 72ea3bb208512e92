//! The server's end.

use core::fmt;
use core::time::Duration;

use super::DeviceError;
use super::message::{AppId, Ask, DateTime, Imei, Kind, MessageError, Request, Response};
use super::reassembler::Reassembler;
use countersign::{Instant, Remaining};

/// Intervals of silence after which a device is given up.
const PATIENCE: u32 = 3;

/// What a device has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asked {
    /// To be registered, perhaps again, with the same IMEI: [`DeviceServer::accept`] or
    /// [`DeviceServer::refuse`].
    Register {
        /// Its application.
        app_id: AppId,
        /// Its own identity.
        imei: Imei,
    },
    /// The time: [`DeviceServer::provide_time`] or [`DeviceServer::refuse`].
    DateTime,
    /// Nothing: it is there.
    Heartbeat,
    /// What it is refused.
    Refused {
        /// The id in its message, or [`Response::NO_ID`].
        id: i8,
        /// Why.
        why: Refusal,
    },
}

/// Why a request is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It is no request.
    Malformed(MessageError),
    /// Who has not registered is not told the time.
    NotRegistered,
    /// The connection is that of a device with another IMEI.
    OtherImei,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::NotRegistered => f.write_str("it asked for the time and has not registered"),
            Self::OtherImei => f.write_str("it has registered with another IMEI before"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listening,
    /// The holder of the server has to say what to answer.
    Asked(Ask),
    Answering(Response),
    /// It was silent for too long.
    Silent,
}

/// The server's end of one connection, from when it is established.
///
/// It takes one request at a time and answers every one. A device that has not registered may send
/// heartbeats and nothing else; one that has may register again, though not with another IMEI. Any
/// whole message is a sign of life.
///
/// ```text
///            handle_part             accept, refuse, provide_time
/// LISTENING ─────────────▶ ASKED ────────────────────────────────▶ ANSWERING
///     │ └─────────────────────────────────────────────────────────▶   │
///     │         handle_part: a heartbeat, or what is refused           │
///     └◀───────────────────────────────────────────────────────────────┘
///                              handle_sent
/// ```
#[derive(Clone, Debug)]
pub struct DeviceServer {
    patience: Duration,
    message: Reassembler<{ Request::MAX_LEN + 1 }>,
    state: State,
    registered: Option<Imei>,
    give_up: Instant,
}

impl DeviceServer {
    /// A connection is established, on which nothing was said. A device that is silent for three
    /// times `interval` is given up.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        let patience = interval.saturating_mul(PATIENCE);
        Self {
            patience,
            message: Reassembler::new(),
            state: State::Listening,
            registered: None,
            give_up: now.saturating_add(patience),
        }
    }

    /// With which IMEI the device has registered, if it has.
    #[must_use]
    pub const fn registered(&self) -> Option<Imei> {
        self.registered
    }

    /// Why the connection is to be ended, if it is.
    #[must_use]
    pub fn error(&self) -> Option<DeviceError> {
        (self.state == State::Silent).then_some(DeviceError::Silent)
    }

    /// Whether parts are taken: no request waits for its answer to be sent.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.state == State::Listening
    }

    /// A part of a message has arrived, which `rest` follows. What the device asks, if it was its
    /// last. Does nothing unless [`is_listening`](Self::is_listening): offer the part again.
    pub fn handle_part(
        &mut self,
        chunk: &[u8],
        remaining: Remaining,
        now: Instant,
    ) -> Option<Asked> {
        if !self.is_listening() {
            return None;
        }
        let message = self.message.push(chunk, remaining)?;
        self.give_up = now.saturating_add(self.patience);
        let id = message.get(1).map_or(Response::NO_ID, |id| id.cast_signed());
        let refused = |why| (State::Answering(Response::error(id)), Asked::Refused { id, why });
        let (state, asked) = match Request::parse(message) {
            Err(error) => refused(Refusal::Malformed(error)),
            Ok(Request { ask, .. }) => match ask {
                Ask::Heartbeat => (State::Answering(Response::heartbeat()), Asked::Heartbeat),
                Ask::DateTime if self.registered.is_none() => refused(Refusal::NotRegistered),
                Ask::DateTime => (State::Asked(ask), Asked::DateTime),
                Ask::Register { imei, .. } if self.registered.is_some_and(|it| it != imei) => {
                    refused(Refusal::OtherImei)
                }
                Ask::Register { app_id, imei } => {
                    (State::Asked(ask), Asked::Register { app_id, imei })
                }
            },
        };
        self.state = state;
        Some(asked)
    }

    /// The device that asked for it is registered. Nothing if none did.
    pub fn accept(&mut self) {
        if let State::Asked(Ask::Register { imei, .. }) = self.state {
            self.registered = Some(imei);
            self.state = State::Answering(Response::registered());
        }
    }

    /// The time, for the device that asked for it. Nothing if none did.
    pub fn provide_time(&mut self, time: DateTime) {
        if self.state == State::Asked(Ask::DateTime) {
            self.state = State::Answering(Response::date_time(time));
        }
    }

    /// What the device asked for is not to be had. Nothing if it did not.
    pub fn refuse(&mut self) {
        if let State::Asked(ask) = self.state {
            let kind: Kind = ask.kind();
            self.state = State::Answering(Response::error(kind.id()));
        }
    }

    /// The response to send, if there is one: the same until [`handle_sent`](Self::handle_sent).
    #[must_use]
    pub fn poll_response(&self) -> Option<Response> {
        match self.state {
            State::Answering(response) => Some(response),
            _ => None,
        }
    }

    /// The response is sent: the device's time begins anew.
    pub fn handle_sent(&mut self, now: Instant) {
        if let State::Answering(_) = self.state {
            self.state = State::Listening;
            self.give_up = now.saturating_add(self.patience);
        }
    }

    /// Lets time pass. To be called when [`poll_timeout`](Self::poll_timeout) is due; spurious calls
    /// are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| at <= now) {
            self.state = State::Silent;
        }
    }

    /// When the device is given up if nothing is heard of it. While it is owed an answer it is not we
    /// who listen: there is no such time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.is_listening().then_some(self.give_up)
    }
}
