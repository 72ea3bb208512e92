//! The server's side of a connection, as a service.

use std::mem;
use std::task::Waker;
use std::time::SystemTime;

use countersign::{CloseReason, Error, Instant, Name, Outbox, Peer, SendError};
use countersign_driver::{Chunk, Flow, StreamService};
use countersign_host::PeerAddr;
use tracing::{debug, info, warn};

use crate::device_server::{DeviceEvent, DeviceServer};
use crate::devices::Devices;
use crate::registration::Registration;
use crate::response::Response;
use crate::table;

/// The server's side of one connection, over a framing with messages. [`Devices`] makes it.
///
/// It responds to every request. It ends the connection when the device is silent for too long, or has
/// registered on another connection.
#[derive(Debug)]
pub struct DeviceConnection {
    devices: Devices,
    addr: PeerAddr,
    /// Wakes this connection when another one registers the same device.
    waker: Waker,
    /// From the end of the handshake until the connection ends.
    open: Option<Open>,
}

/// The state of an open connection.
#[derive(Debug)]
struct Open {
    server: DeviceServer,
    /// The peer's name, in schemes with names.
    name: Option<Name>,
    /// Set once the device has registered.
    registration: Option<Registration>,
    /// The device sends no more: this side finishes after the last response.
    finished: bool,
    /// It was logged that the registry is full.
    refusal_logged: bool,
}

impl DeviceConnection {
    pub(crate) const fn new(devices: Devices, addr: PeerAddr, waker: Waker) -> Self {
        Self { devices, addr, waker, open: None }
    }

    fn handle_event(&mut self, event: DeviceEvent) {
        let Self { devices, addr, waker, open: Some(open) } = self else { return };
        let now = SystemTime::now();
        match (event, &open.registration) {
            (DeviceEvent::Heartbeat, registration) => {
                if let Some(registration) = registration {
                    registration.record_heartbeat(now);
                }
            }
            (DeviceEvent::DateTime, _) => match table::local(now).and_then(|it| it.parse().ok()) {
                Some(time) => open.server.provide_time(time),
                None => open.server.reject(),
            },
            (DeviceEvent::Register { app_id, imei }, Some(registration)) => {
                registration.renew(app_id, now);
                open.server.accept();
                debug!(target: "countersign", "device registered again peer={addr} imei={imei}");
            }
            (DeviceEvent::Register { app_id, imei }, None) => {
                let (device, peer) = ((imei, app_id), (*addr, open.name));
                match devices.registry().register(device, peer, waker, now) {
                    Ok(registration) => {
                        open.registration = Some(registration);
                        open.server.accept();
                        info!(target: "countersign", "device registered peer={addr} imei={imei} app_id={app_id:?}");
                    }
                    Err(full) => {
                        open.server.reject();
                        // Once for each connection: a device may retry as often as it likes.
                        if mem::replace(&mut open.refusal_logged, true) {
                            return;
                        }
                        warn!(target: "countersign", "device refused peer={addr} imei={imei}: {full}");
                    }
                }
            }
            (DeviceEvent::Rejected { id, reason }, _) => {
                debug!(target: "countersign", "device refused peer={addr} request={id}: {reason}");
            }
        }
    }

    /// Sends the response that is due; finishes after the last one.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let Some(open) = &mut self.open else { return };
        if let Some(response) = open.server.poll_response() {
            match out.send(response.write(&mut [0; Response::MAX_LEN])) {
                Err(SendError::Full) => {}
                // After any other error the connection is ending, and no response is due.
                _ => open.server.handle_sent(now),
            }
        }
        if open.finished && open.server.is_awaiting_request() {
            out.finish();
        }
    }

    /// Ends the connection if its device has registered on another one.
    fn check_registration(&mut self, out: &mut Outbox<'_>) {
        let Some(open) = &self.open else { return };
        if open.registration.as_ref().is_some_and(|registration| !registration.is_current())
            && let Some(imei) = open.server.registered()
        {
            info!(target: "countersign", "device taken over peer={} imei={imei}", self.addr);
            self.open = None;
            out.abort(CloseReason::Application);
        }
    }
}

impl StreamService for DeviceConnection {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, now: Instant) {
        self.open = Some(Open {
            server: DeviceServer::new(self.devices.interval(), now),
            name: peer.name.and_then(|name| name.parse().ok()),
            registration: None,
            finished: false,
            refusal_logged: false,
        });
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.check_registration(out);
        self.flush(out, now);
        let Some(open) = &mut self.open else { return Flow::Consumed };
        if !open.server.is_awaiting_request() {
            return Flow::Backpressure;
        }
        if let Some(event) = open.server.handle_chunk(chunk.bytes, chunk.remaining, now) {
            self.handle_event(event);
            self.flush(out, now);
        }
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.check_registration(out);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        if let Some(open) = &mut self.open {
            open.finished = true;
        }
        self.flush(out, now);
    }

    fn is_idle(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.server.is_awaiting_request())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.open.as_ref()?.server.poll_timeout()
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let Some(open) = &mut self.open else { return };
        open.server.handle_timeout(now);
        if let Some(error) = open.server.error() {
            let imei = open.server.registered();
            let imei = imei.as_ref().map_or("-", |imei| imei.as_str());
            info!(target: "countersign", "device given up peer={} imei={imei} reason={}: {error}", self.addr, error.code());
            self.open = None;
            out.abort(CloseReason::Timeout);
        }
    }

    fn on_closed(&mut self, _: Result<(), Error>) {
        self.open = None;
    }
}
