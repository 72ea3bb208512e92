//! One connection, one task, any service.

use std::future::poll_fn;
use std::io;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use countersign::{Instant, Protocol};
use countersign_driver::{Connection, Failure, Keys, Progress, Service};
use countersign_host::{Clock, Next};
use futures_io::{AsyncRead, AsyncWrite};

use crate::bell::Bell;
use crate::socket::Socket;
use crate::wire::{Deadline, Polled, Wire};

/// A transport with which a task drives a connection: any service, as either end, on any executor.
///
/// ```no_run
/// # async fn run(protocol: impl countersign_host::Protocol, key: countersign::Key)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use countersign_driver::services::Upper;
/// use countersign_smol::{Link, Socket};
///
/// let socket = Socket::connect(&"127.0.0.1:9999".parse()?, std::time::Duration::from_secs(10)).await?;
/// let link = Link::from(socket);
/// let machine = protocol.client(&link.waker(), link.now())?;
/// let (_service, how) = link.drive(machine, Upper, &key).await;
/// how?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Link<T> {
    wire: Wire<T>,
    clock: Clock,
    bell: Bell,
    stopping: Arc<AtomicBool>,
}

impl<T> Link<T> {
    /// A link over `transport`, whose clock starts now. Closing `transport` has to shut its write side,
    /// as it does in [`Socket`] and in the sockets of `async-net`, but not in a bare `async_io::Async`.
    pub fn new(transport: T) -> Self {
        Self {
            wire: Wire::new(transport),
            clock: Clock::start(),
            bell: Bell::default(),
            stopping: Arc::default(),
        }
    }

    /// With a clock that others share.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// With a way to [acknowledge](countersign_driver::Io::acknowledge) at once what has come.
    #[must_use]
    pub fn with_acknowledge(self, acknowledge: fn(&T)) -> Self {
        Self { wire: self.wire.with_acknowledge(acknowledge), ..self }
    }

    /// The transport.
    pub fn get_ref(&self) -> &T {
        self.wire.get_ref()
    }

    /// Now, by its clock.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// What wakes the connection, whichever task drives it: for its machine, and for its service, whose
    /// [`on_wake`](Service::on_wake) is then called. It may be woken from any thread, and before
    /// [`drive`](Self::drive).
    pub fn waker(&self) -> Waker {
        self.bell.waker()
    }

    /// What stops the connection.
    pub fn stopper(&self) -> Stopper {
        Stopper { stopping: self.stopping.clone(), waker: self.waker() }
    }

    /// Runs `service` until the connection is over; returns it, and how the connection ended. Much that
    /// there is to do at once is done in several polls.
    ///
    /// To drop this is to end the connection without a last word; the service is told by
    /// [`on_closed`](Service::on_closed) before it is dropped, with
    /// [`Error::Aborted`](countersign::Error::Aborted). To end it in order there is the
    /// [stopper](Self::stopper). A panic of the service is not caught.
    pub async fn drive<M, S, K>(
        self,
        machine: M,
        service: S,
        keys: &K,
    ) -> (S, Result<(), Failure<io::Error>>)
    where
        M: DerefMut<Target: Protocol>,
        S: Service,
        K: Keys + ?Sized,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut connection = Connection::new(machine, service);
        let held = Held(&mut connection);
        let (clock, stopping, mut how) = (self.clock, self.stopping.clone(), Ok(()));
        self.turns(|io, woken| {
            if woken {
                held.0.wake();
            }
            if stopping.load(Ordering::SeqCst) {
                held.0.stop();
            }
            match held.0.turn(io, keys, clock.now()) {
                Progress::Yield => Next::Again,
                Progress::Wait(wait) => Next::Wait(wait),
                Progress::Closed(end) => {
                    how = end;
                    Next::Over
                }
            }
        })
        .await;
        drop(held);
        (connection.into_service(), how)
    }

    /// Takes one `turn` after the other, each with whether it was woken, and waits as they say.
    // An async function would hold what it is given twice, and a server holds one for each connection.
    pub(crate) fn turns(
        mut self,
        mut turn: impl FnMut(&mut Polled<'_, '_, T>, bool) -> Next,
    ) -> impl Future<Output = ()> {
        let mut deadline = Deadline::new();
        poll_fn(move |cx| {
            let woken = self.bell.listen(cx);
            match turn(&mut self.wire.polled(cx), woken) {
                Next::Over => return Poll::Ready(()),
                Next::Wait(wait) if deadline.poll(wait.until, self.now(), cx).is_pending() => {}
                // But others first.
                Next::Again | Next::Wait(_) => cx.waker().wake_by_ref(),
            }
            Poll::Pending
        })
    }
}

/// A socket of ours is acknowledged for.
impl From<Socket> for Link<Socket> {
    fn from(socket: Socket) -> Self {
        Self::new(socket).with_acknowledge(Socket::acknowledge)
    }
}

/// A connection whose service is told of its end though nobody drives it any more.
struct Held<'a, M: DerefMut<Target: Protocol>, S: Service>(&'a mut Connection<M, S>);

impl<M: DerefMut<Target: Protocol>, S: Service> Drop for Held<'_, M, S> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Stops a [`Link`], from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    stopping: Arc<AtomicBool>,
    waker: Waker,
}

impl Stopper {
    /// Ends the connection as soon as nothing is under way on it: what the peer has begun to send is read
    /// and answered first. No time is set for that; to put an end to it, drop what drives the link.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waker.wake_by_ref();
    }
}
