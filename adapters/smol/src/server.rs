//! A server with a task for each connection.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_executor::Executor;
use async_io::{Async, Timer};
use countersign_host::{
    Accepted, Acceptor, AdmissionGuard, Listener, Next, Open, PeerAddr, ProtocolFactory,
    ServedConnection, ServerContext, ServerHandle, ServerOptions, SharedKeys, Stream,
};
use futures_lite::future::yield_now;
use tracing::warn;

use crate::bell::Bell;
use crate::link::Link;
use crate::socket::Socket;

/// Connections accepted from one listener before others have their turn.
const ACCEPTS: usize = 64;
/// How long to leave a listener alone for which the system cannot wait.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that gives each connection a task of its own.
pub struct Server<O: Open> {
    listeners: Vec<Async<Listener>>,
    front: ServerContext<O>,
    told: Bell,
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
        let told = Bell::default();
        let front =
            ServerContext::new(protocol, keys, open, options, ServerHandle::new(told.waker()));
        let listeners = listeners.into_iter().map(Async::new_nonblocking);
        Ok(Self { listeners: listeners.collect::<io::Result<_>>()?, front, told })
    }

    /// What stops it.
    #[must_use]
    pub fn remote(&self) -> ServerHandle {
        self.front.remote().clone()
    }

    /// Serves until stopped, and returns when the last connection has ended or was given up.
    ///
    /// The tasks of the connections are part of this future, on an executor of its own: they are polled
    /// when it is, by whatever executor, one at a time. So no connection outlives it: to drop it is to
    /// close the listeners and all connections at once, and their services are told by
    /// [`on_closed`](countersign_driver::Service::on_closed) before the drop returns. Several threads
    /// are put to use by a server in each, on [listeners](countersign_host::Address::listen) that
    /// share an address; the servers may share a [`ConnectionLimit`](countersign_host::ConnectionLimit),
    /// [`PeerLimits`](countersign_host::PeerLimits), keys and pools.
    ///
    /// A service that panics ends its own connection, and nobody else's.
    pub async fn run(self) {
        let Self { listeners, front, told } = self;
        let front = &front;
        let executor = Executor::new();
        let mut accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| Box::pin(accept(listener, front, &executor)))
            .collect();
        let stopped = poll_fn(|cx| {
            told.listen(cx);
            if front.remote().is_stopping() {
                return Poll::Ready(());
            }
            for listener in &mut accepting {
                // It goes on for ever.
                let _ = listener.as_mut().poll(cx);
            }
            Poll::Pending
        });
        executor.run(stopped).await;
        // Nobody is to wait where nobody will be served.
        drop(accepting);
        while !executor.is_empty() {
            executor.tick().await;
            yield_now().await;
        }
    }
}

/// Accepts from one listener, for ever.
async fn accept<'a, O: Open>(
    listener: Async<Listener>,
    front: &'a ServerContext<O>,
    executor: &Executor<'a>,
) {
    let mut acceptor = Acceptor::default();
    let mut accepted = 0;
    loop {
        let now = front.now();
        match acceptor.accept(listener.get_ref(), now) {
            Accepted::Connection(stream, origin) => {
                if let Some(guest) = front.admit(&stream, &origin, now) {
                    begin(stream, origin, guest, front, executor);
                }
                accepted += 1;
                if accepted % ACCEPTS == 0 {
                    yield_now().await;
                }
            }
            Accepted::Nothing => {
                if listener.readable().await.is_err() {
                    Timer::after(PAUSE).await;
                }
            }
            Accepted::Later(until) => {
                Timer::after(until.saturating_duration_since(now)).await;
            }
        }
    }
}

/// Gives a connection its task.
fn begin<'a, O: Open>(
    stream: Stream,
    origin: PeerAddr,
    guest: AdmissionGuard,
    front: &'a ServerContext<O>,
    executor: &Executor<'a>,
) {
    let socket = match Socket::new(stream) {
        Ok(socket) => socket,
        Err(error) => {
            warn!(target: "countersign", "cannot serve peer={origin}: {error}");
            return;
        }
    };
    let link = Link::from(socket).with_clock(front.options().clock);
    let stream = link.get_ref().get_ref();
    let mut served = ServedConnection::begin(front, stream, origin, guest, &link.waker());
    if served.is_none() {
        return;
    }
    // Without an async block around it, which would hold the link twice.
    executor
        .spawn(link.turns(move |io, woken| {
            let Some(connection) = &mut served else { return Next::Over };
            if woken {
                connection.woken();
            }
            let next = connection.turn(io);
            if next == Next::Over {
                // Here, where a service that panics when it is dropped ends nobody else's connection.
                served = None;
            }
            next
        }))
        .detach();
}
