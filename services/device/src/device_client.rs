//! The device's end.

use core::time::Duration;

use super::message::{AppId, Ask, Imei, Kind, Request, Response};
use super::reassembler::Reassembler;
use super::{DEFAULT_INTERVAL, DeviceError};
use countersign::{Instant, Remaining};

/// Where the requests of one kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// None is to be sent.
    Off,
    /// One is to be sent then.
    Due(Instant),
    /// One was sent then, and its answer is to come.
    Asked(Instant),
}

/// The device's end of one connection, from when it is established: make one for each.
///
/// It registers; when that is answered with 0 it asks the time, and from then on sends a heartbeat
/// every interval. Of each kind at most one request is unanswered: a heartbeat that falls due while
/// the last one is not answered waits for that answer, or for the deadline of it.
///
/// After every other call: send what [`poll_request`](Self::poll_request) has, and look at
/// [`error`](Self::error).
#[derive(Clone, Debug)]
pub struct DeviceClient {
    app_id: AppId,
    imei: Imei,
    interval: Duration,
    answer_timeout: Duration,
    message: Reassembler<{ Response::MAX_LEN + 1 }>,
    /// By kind.
    stages: [Stage; Kind::ALL.len()],
    /// What was offered by `poll_request` and is not yet sent.
    sending: Option<Kind>,
    error: Option<DeviceError>,
}

impl DeviceClient {
    /// How long the server may take for an answer, unless configured otherwise.
    pub const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

    /// A connection is established, on which nothing was said.
    #[must_use]
    pub const fn new(app_id: AppId, imei: Imei, now: Instant) -> Self {
        Self {
            app_id,
            imei,
            interval: DEFAULT_INTERVAL,
            answer_timeout: Self::DEFAULT_ANSWER_TIMEOUT,
            message: Reassembler::new(),
            stages: [Stage::Due(now), Stage::Off, Stage::Off],
            sending: None,
            error: None,
        }
    }

    /// How long after one heartbeat the next one is due. A server gives a device up that is silent
    /// for three of its own intervals.
    #[must_use]
    pub const fn with_interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// How long the server may take for an answer, counted from when the request was sent.
    #[must_use]
    pub const fn with_answer_timeout(self, answer_timeout: Duration) -> Self {
        Self { answer_timeout, ..self }
    }

    /// Why nothing more will come of this connection, if that is so: end it.
    #[must_use]
    pub const fn error(&self) -> Option<DeviceError> {
        self.error
    }

    /// The request to send now, if there is one: the same until [`handle_sent`](Self::handle_sent).
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if self.error.is_some() {
            return None;
        }
        let due = |kind: &Kind| matches!(self.stages[*kind as usize], Stage::Due(at) if at <= now);
        let kind = self.sending.or_else(|| Kind::ALL.into_iter().find(due))?;
        self.sending = Some(kind);
        let ask = match kind {
            Kind::Register => Ask::Register { app_id: self.app_id, imei: self.imei },
            Kind::Heartbeat => Ask::Heartbeat,
            Kind::DateTime => Ask::DateTime,
        };
        Some(Request { client_id: Request::CLIENT_ID, ask })
    }

    /// The request that [`poll_request`](Self::poll_request) last returned is sent; its answer is
    /// awaited from now on.
    pub fn handle_sent(&mut self, now: Instant) {
        if let Some(kind) = self.sending.take() {
            self.stages[kind as usize] = Stage::Asked(now);
        }
    }

    /// A part of a message has arrived, which `rest` follows. The response, if it was its last: of a
    /// kind that was asked for, and perhaps with an error code.
    pub fn handle_part(
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
        let Stage::Asked(asked) = self.stages[kind as usize] else {
            self.error = Some(DeviceError::Unasked(kind));
            return None;
        };
        self.stages[kind as usize] = Stage::Off;
        match (kind, response.code()) {
            (Kind::Register, 0) => {
                self.stages[Kind::DateTime as usize] = Stage::Due(now);
                self.beat_after(now);
            }
            (Kind::Heartbeat, 0) => self.beat_after(asked),
            // A server may have no clock.
            (Kind::DateTime, _) => {}
            (Kind::Register | Kind::Heartbeat, _) => self.error = Some(DeviceError::Refused(kind)),
        }
        Some(response)
    }

    /// The next heartbeat is due an interval after `at`.
    fn beat_after(&mut self, at: Instant) {
        self.stages[Kind::Heartbeat as usize] = Stage::Due(at.saturating_add(self.interval));
    }

    /// Lets time pass. To be called when [`poll_timeout`](Self::poll_timeout) is due; spurious calls
    /// are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        let late = |kind: &Kind| self.deadline(*kind).is_some_and(|at| at <= now);
        if self.error.is_none()
            && let Some(kind) = Kind::ALL.into_iter().find(late)
        {
            self.error = Some(DeviceError::NoAnswer(kind));
        }
    }

    /// By when the answer of this kind has to be here.
    fn deadline(&self, kind: Kind) -> Option<Instant> {
        match self.stages[kind as usize] {
            Stage::Asked(at) => Some(at.saturating_add(self.answer_timeout)),
            _ => None,
        }
    }

    /// When there will be a request to send, or an answer is late.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.error.is_some() {
            return None;
        }
        let when = |kind| match self.stages[kind as usize] {
            // What waits for room to be sent is not for time to move.
            Stage::Due(at) if self.sending.is_none() => Some(at),
            _ => self.deadline(kind),
        };
        Kind::ALL.into_iter().filter_map(when).min()
    }
}
