//! The device's side of a connection, as a service.

use core::fmt;
use core::ops::ControlFlow;
use core::time::Duration;

use countersign::{CloseReason, Instant, Outbox, Peer};
use countersign_driver::{Chunk, Flow, StreamService};

use crate::device_client::DeviceClient;
use crate::device_error::DeviceError;
use crate::request::Request;
use crate::response::Response;

/// How long the device waits for the server to finish after it has finished itself.
const LINGER: Duration = Duration::from_secs(1);

/// The device's side of one connection, over a framing with messages: registers, requests the time and
/// sends heartbeats.
///
/// Make a new one for each connection.
pub struct Device<F> {
    client: DeviceClient,
    on_response: F,
    /// Set when the device has finished: when to abort if the server does not finish.
    abort_at: Option<Instant>,
}

impl<F: FnMut(&Response) -> ControlFlow<()>> Device<F> {
    /// A device that sends the requests of `client`. Calls `on_response` with each response of the server;
    /// when that returns [`ControlFlow::Break`], the device finishes the connection.
    pub fn new(client: DeviceClient, on_response: F) -> Self {
        Self { client, on_response, abort_at: None }
    }

    /// Why the device has aborted the connection, if it has.
    pub fn error(&self) -> Option<DeviceError> {
        self.client.error()
    }

    /// Sends the requests that are due.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        while self.abort_at.is_none()
            && let Some(request) = self.client.poll_request(now)
        {
            if out.send(request.write(&mut [0; Request::MAX_LEN])).is_err() {
                return;
            }
            self.client.handle_sent(now);
        }
    }

    /// Aborts the connection if the protocol has failed.
    fn check(&self, out: &mut Outbox<'_>) {
        match self.client.error() {
            Some(DeviceError::NoResponse(_)) => out.abort(CloseReason::Timeout),
            Some(DeviceError::Refused(_)) => out.abort(CloseReason::Application),
            Some(_) => out.abort(CloseReason::Protocol),
            None => {}
        }
    }
}

impl<F: FnMut(&Response) -> ControlFlow<()>> StreamService for Device<F> {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        if let Some(response) = self.client.handle_chunk(chunk.bytes, chunk.remaining, now)
            && (self.on_response)(&response).is_break()
            && self.abort_at.is_none()
        {
            self.abort_at = Some(now.saturating_add(LINGER));
            out.finish();
        }
        self.check(out);
        self.flush(out, now);
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.abort_at.or_else(|| self.client.poll_timeout())
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        match self.abort_at {
            Some(at) if at <= now => out.abort(CloseReason::Shutdown),
            Some(_) => {}
            None => {
                self.client.handle_timeout(now);
                self.check(out);
                self.flush(out, now);
            }
        }
    }
}

impl<F> fmt::Debug for Device<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("client", &self.client).finish_non_exhaustive()
    }
}
