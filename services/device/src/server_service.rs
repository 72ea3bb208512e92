//! The server of devices.

use std::task::Waker;
use std::time::{Duration, SystemTime};

use crate::{Asked, DeviceServer, Response};
use countersign::{CloseReason, Error, Instant, Name, Outbox, Peer, SendError};
use tracing::{debug, info, warn};

use super::registry::{Place, Registry};
use super::table;
use countersign_driver::{Chunk, Flow, Service};
use countersign_host::Open;
use countersign_host::PeerAddr;

/// Serves devices: makes the service of each connection.
#[derive(Clone, Debug)]
pub struct Devices {
    registry: Registry,
    interval: Duration,
}

impl Devices {
    /// Devices that register with `registry`, and are given up when they were silent for three times
    /// `interval`.
    #[must_use]
    pub fn new(registry: Registry, interval: Duration) -> Self {
        Self { registry, interval }
    }
}

impl Open for Devices {
    type Service = DeviceConnection;

    fn open(&self, origin: &PeerAddr, wake: Waker) -> DeviceConnection {
        DeviceConnection { devices: self.clone(), origin: *origin, wake, live: None }
    }
}

/// A device's connection, at its server: answers what it asks, and ends when the device is silent or
/// has registered elsewhere. For framings that have messages.
#[derive(Debug)]
pub struct DeviceConnection {
    devices: Devices,
    origin: PeerAddr,
    /// Wakes this connection.
    wake: Waker,
    /// From when the handshake is over until the connection is.
    live: Option<Live>,
}

#[derive(Debug)]
struct Live {
    server: DeviceServer,
    /// What the peer is called, in schemes that have names.
    name: Option<Name>,
    /// From when the device has registered.
    place: Option<Place>,
    /// The device sends no more: so do we, once it is answered.
    finished: bool,
    /// The log has it that there is no place for the device.
    refused: bool,
}

impl DeviceConnection {
    /// Does what the device has asked for.
    fn act(&mut self, asked: Asked) {
        let Self { devices, origin, wake, live: Some(live) } = self else { return };
        let now = SystemTime::now();
        match (asked, &live.place) {
            (Asked::Heartbeat, place) => {
                if let Some(place) = place {
                    place.beat(now);
                }
            }
            (Asked::DateTime, _) => match table::local(now).and_then(|text| text.parse().ok()) {
                Some(time) => live.server.provide_time(time),
                None => live.server.refuse(),
            },
            (Asked::Register { app_id, imei }, Some(place)) => {
                place.register_again(app_id, now);
                live.server.accept();
                debug!(target: "countersign", "device registered again peer={origin} imei={imei}");
            }
            (Asked::Register { app_id, imei }, None) => {
                let device = (imei, app_id);
                match devices.registry.register(device, (*origin, live.name), wake, now) {
                    Ok(place) => {
                        live.place = Some(place);
                        live.server.accept();
                        info!(target: "countersign", "device registered peer={origin} imei={imei} app_id={app_id:?}");
                    }
                    Err(full) => {
                        live.server.refuse();
                        // It may ask as often as it likes.
                        if std::mem::replace(&mut live.refused, true) {
                            return;
                        }
                        warn!(target: "countersign", "device refused peer={origin} imei={imei}: {full}");
                    }
                }
            }
            (Asked::Refused { id, why }, _) => {
                debug!(target: "countersign", "device refused peer={origin} request={id}: {why}");
            }
        }
    }

    /// Sends the answer that is due, and after the last one finishes.
    fn flush(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let Some(live) = &mut self.live else { return };
        if let Some(response) = live.server.poll_response() {
            match out.send(response.write(&mut [0; Response::MAX_LEN])) {
                Err(SendError::Full) => {}
                // If it is refused the connection is ending: no answer is due.
                _ => live.server.handle_sent(now),
            }
        }
        if live.finished && live.server.is_listening() {
            out.finish();
        }
    }

    /// Ends the connection if its device has registered elsewhere.
    fn yield_place(&mut self, out: &mut Outbox<'_>) {
        let Some(live) = &self.live else { return };
        if live.place.as_ref().is_some_and(|place| !place.is_current())
            && let Some(imei) = live.server.registered()
        {
            info!(target: "countersign", "device taken over peer={} imei={imei}", self.origin);
            self.live = None;
            out.abort(CloseReason::Application);
        }
    }
}

impl Service for DeviceConnection {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, now: Instant) {
        let server = DeviceServer::new(self.devices.interval, now);
        let name = peer.name.and_then(|name| name.parse().ok());
        self.live = Some(Live { server, name, place: None, finished: false, refused: false });
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.yield_place(out);
        self.flush(out, now);
        let Some(live) = &mut self.live else { return Flow::Consumed };
        if !live.server.is_listening() {
            return Flow::Backpressure;
        }
        if let Some(asked) = live.server.handle_part(chunk.bytes, chunk.remaining, now) {
            self.act(asked);
            self.flush(out, now);
        }
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, now: Instant) {
        self.flush(out, now);
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.yield_place(out);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, now: Instant) {
        if let Some(live) = &mut self.live {
            live.finished = true;
        }
        self.flush(out, now);
    }

    fn is_idle(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.server.is_listening())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.live.as_ref()?.server.poll_timeout()
    }

    fn on_timeout(&mut self, out: &mut Outbox<'_>, now: Instant) {
        let Some(live) = &mut self.live else { return };
        live.server.handle_timeout(now);
        if let Some(error) = live.server.error() {
            let imei = live.server.registered();
            let imei = imei.as_ref().map_or("-", |imei| imei.as_str());
            info!(target: "countersign", "device given up peer={} imei={imei} reason={}: {error}", self.origin, error.code());
            self.live = None;
            out.abort(CloseReason::Timeout);
        }
    }

    fn on_closed(&mut self, _: Result<(), Error>) {
        self.live = None;
    }
}
