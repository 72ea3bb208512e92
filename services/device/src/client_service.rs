//! A device.

use core::ops::ControlFlow;
use core::time::Duration;

use crate::{DeviceClient, DeviceError, Request, Response};
use countersign::{CloseReason, Instant, Outbox, Peer};

use countersign_driver::{Chunk, Flow, Service};

/// How long the server has to agree when the device leaves.
const LINGER: Duration = Duration::from_secs(1);

/// A device's connection, at the device: registers, asks the time, keeps the heart beating. For
/// framings that have messages, and for one connection: make another to connect again.
#[derive(Debug)]
pub struct Device<F> {
    client: DeviceClient,
    tell: F,
    /// From when it leaves, when it does so without the server's leave.
    leave: Option<Instant>,
}

impl<F: FnMut(&Response) -> ControlFlow<()>> Device<F> {
    /// A device that speaks as `client`. `tell` is told each answer of the server's; when it breaks,
    /// the device leaves.
    pub fn new(client: DeviceClient, tell: F) -> Self {
        Self { client, tell, leave: None }
    }

    /// Why the device has ended the connection, if it has.
    pub fn error(&self) -> Option<DeviceError> {
        self.client.error()
    }

    /// Sends what is due.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        while self.leave.is_none()
            && let Some(request) = self.client.poll_request(now)
        {
            if out.send(request.write(&mut [0; Request::MAX_LEN])).is_err() {
                return;
            }
            self.client.handle_sent(now);
        }
    }

    /// Ends the connection if something is wrong with it.
    fn check(&self, out: &mut Outbox<'_>) {
        match self.client.error() {
            Some(DeviceError::NoAnswer(_)) => out.abort(CloseReason::Timeout),
            Some(DeviceError::Refused(_)) => out.abort(CloseReason::Application),
            Some(_) => out.abort(CloseReason::Protocol),
            None => {}
        }
    }
}

impl<F: FnMut(&Response) -> ControlFlow<()>> Service for Device<F> {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        if let Some(response) = self.client.handle_part(chunk.bytes, chunk.remaining, now)
            && (self.tell)(&response).is_break()
            && self.leave.is_none()
        {
            self.leave = Some(now.saturating_add(LINGER));
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
        self.leave.or_else(|| self.client.poll_timeout())
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        match self.leave {
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
