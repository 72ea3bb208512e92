//! A server with a thread for each connection.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use countersign::Instant;
use countersign_host::{
    Accepted, Acceptor, AdmissionGuard, Listener, Next, Open, PeerAddr, ProtocolFactory,
    ServedConnection, ServerContext, ServerHandle, ServerOptions, SharedKeys, Stream,
};
use tracing::warn;

use crate::rouse::Rouse;

/// Connections accepted from one listener before the others have their turn.
const ACCEPTS: usize = 64;

/// A server that gives each connection a thread of its own, so that a service may take its time: it
/// holds up nobody else. As many threads as [`ServerOptions::gate`] lets in, and each has three
/// files open.
pub struct Server<O: Open> {
    ports: Vec<(Listener, Acceptor)>,
    front: ServerContext<O>,
    rouse: Arc<Rouse>,
}

impl<O: Open> Server<O> {
    /// A server on `listeners`; [`run`](Self::run) serves. `keys` may be an `Arc` of any
    /// [`Keys`](countersign_driver::Keys).
    ///
    /// # Errors
    /// The system's.
    pub fn new(
        listeners: Vec<Listener>,
        protocol: Arc<dyn ProtocolFactory>,
        keys: impl Into<SharedKeys>,
        open: O,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let rouse = Arc::new(Rouse::new()?);
        let front = ServerContext::new(
            protocol,
            keys,
            open,
            options,
            ServerHandle::new(rouse.clone().into()),
        );
        let ports = listeners.into_iter().map(|it| (it, Acceptor::default())).collect();
        Ok(Self { ports, front, rouse })
    }

    /// What stops it.
    #[must_use]
    pub fn remote(&self) -> ServerHandle {
        self.front.remote().clone()
    }

    /// Serves until stopped, and returns when the last connection has ended. A service that does not
    /// return from a call is waited for.
    pub fn run(&mut self) {
        let Self { ports, front, rouse } = self;
        let front = &*front;
        let mut spare: Option<Arc<Rouse>> = None;
        thread::scope(|scope| {
            while !front.remote().is_stopping() {
                let now = front.now();
                for (listener, acceptor) in &mut *ports {
                    for _ in 0..ACCEPTS {
                        // Before: who was accepted and cannot be served is lost, who waits is not.
                        let own = match spare.take().map_or_else(|| Rouse::new().map(Arc::new), Ok)
                        {
                            Ok(own) => own,
                            Err(error) => {
                                acceptor.put_off(&error, now);
                                break;
                            }
                        };
                        let Accepted::Connection(stream, origin) = acceptor.accept(listener, now)
                        else {
                            spare = Some(own);
                            break;
                        };
                        let Some(guest) = front.admit(&stream, &origin, now) else {
                            spare = Some(own);
                            continue;
                        };
                        let named = thread::Builder::new().name(origin.to_string());
                        let serve = move || serve_alone(front, &stream, origin, guest, &own);
                        if let Err(error) = named.spawn_scoped(scope, serve) {
                            warn!(target: "countersign", "cannot serve peer={origin}: {error}");
                        }
                    }
                }
                let paused: Option<Instant> = ports.iter().filter_map(|it| it.1.pause()).min();
                let open = ports.iter().filter(|it| it.1.pause().is_none());
                rouse.wait_for_any(open.map(|it| &it.0), paused, front.now());
            }
            // Nobody is to wait where nobody will be served.
            ports.clear();
        });
    }
}

/// Not even a service that panics when it is dropped ends the server.
fn serve_alone<O: Open>(
    front: &ServerContext<O>,
    stream: &Stream,
    origin: PeerAddr,
    guest: AdmissionGuard,
    rouse: &Arc<Rouse>,
) {
    let serve = AssertUnwindSafe(|| serve(front, stream, origin, guest, rouse));
    if catch_unwind(serve).is_err() {
        warn!(target: "countersign", "ended peer={origin}: its service panicked");
    }
}

/// Serves one connection, to its end.
fn serve<O: Open>(
    front: &ServerContext<O>,
    stream: &Stream,
    origin: PeerAddr,
    guest: AdmissionGuard,
    rouse: &Arc<Rouse>,
) {
    let wake = rouse.clone().into();
    let Some(mut served) = ServedConnection::begin(front, stream, origin, guest, &wake) else {
        return;
    };
    loop {
        match served.turn(&mut { stream }) {
            Next::Again => {}
            Next::Wait(wait) => {
                if rouse.wait(Some(stream), wait, front.now()) {
                    served.woken();
                }
            }
            Next::Over => return,
        }
    }
}
