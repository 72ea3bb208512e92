//! One connection, one task, any service.

use std::future::poll_fn;
use std::io;
use std::ops::DerefMut;
use std::sync::Arc;
use std::task::{Poll, Waker};

use countersign::{Instant, Protocol};
use countersign_driver::{Failure, Keys, ServiceConnection, StreamService};
use countersign_futures::{Connect, PolledTransport, Transport};
use countersign_host::{Clock, ShutdownHandle, Step, StoppableConnection};
use futures_io::{AsyncRead, AsyncWrite};

use crate::deadline::Deadline;
use crate::notify::Notify;
use crate::socket::Socket;

/// A transport on which a task drives a connection: any service, as either end, on any executor.
///
/// ```no_run
/// # async fn run(factory: impl countersign_smol::ProtocolFactory, key: countersign_smol::Key)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use countersign_smol::{ConnectionTask, MessageMemory, Socket, services::Upper};
///
/// let socket = Socket::connect(&"127.0.0.1:9999".parse()?, std::time::Duration::from_secs(10)).await?;
/// let task = ConnectionTask::from(socket);
/// let protocol = factory.client(&task.waker().into(), task.now())?;
/// let service = MessageMemory::default().service(Upper); // whole messages
/// let (_service, result) = task.drive(protocol, service, &key).await;
/// result?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ConnectionTask<T> {
    transport: Transport<T>,
    clock: Clock,
    notify: Arc<Notify>,
    shutdown: ShutdownHandle,
}

impl<T> ConnectionTask<T> {
    /// A task on `transport`, whose clock starts now. Closing `transport` must shut its write side, as it
    /// does for [`Socket`] and the sockets of `async-net`, but not for a bare `async_io::Async`.
    pub fn new(transport: T) -> Self {
        let notify = Arc::<Notify>::default();
        let shutdown = ShutdownHandle::new(notify.clone().into());
        Self { transport: Transport::new(transport), clock: Clock::start(), notify, shutdown }
    }

    /// With a clock that other connections share.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// With a function that acknowledges received bytes at once:
    /// [`Io::acknowledge`](countersign_driver::Io::acknowledge).
    #[must_use]
    pub fn with_acknowledge(self, acknowledge: fn(&T)) -> Self {
        Self { transport: self.transport.with_acknowledge(acknowledge), ..self }
    }

    /// The transport.
    pub fn get_ref(&self) -> &T {
        self.transport.get_ref()
    }

    /// Now, by its clock.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Wakes the connection, from any thread and also before [`drive`](Self::drive): for its protocol, and
    /// for its service, whose [`on_wake`](StreamService::on_wake) is called then.
    pub fn waker(&self) -> Waker {
        self.notify.clone().into()
    }

    /// Stops the connection, from any thread. There is no time limit; to end it at once, drop the future
    /// of [`drive`](Self::drive).
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        self.shutdown.clone()
    }

    /// Runs `service` until the connection is over; returns the service and the result of the connection.
    /// A service of whole messages is one of [`MessageMemory::service`](crate::MessageMemory::service).
    ///
    /// Dropping this future ends the connection at once; the service's
    /// [`on_closed`](StreamService::on_closed) is called before, with
    /// [`Error::Aborted`](countersign::Error::Aborted). The [shutdown handle](Self::shutdown_handle) ends
    /// it in order. A panic of the service is not caught.
    pub async fn drive<P, S, K>(
        self,
        protocol: P,
        service: S,
        keys: &K,
    ) -> (S, Result<(), Failure<io::Error>>)
    where
        P: DerefMut<Target: Protocol>,
        S: StreamService,
        K: Keys + ?Sized,
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut connection = ServiceConnection::new(protocol, service);
        let Self { transport, clock, notify, shutdown } = self;
        let mut stoppable = StoppableConnection::new(&mut connection, &shutdown, None);
        drive(transport, notify, clock, |io, woken| stoppable.poll(io, keys, clock.now(), woken))
            .await;
        let result = stoppable.result();
        (connection.into_service(), result)
    }
}

impl From<Socket> for ConnectionTask<Socket> {
    fn from(socket: Socket) -> Self {
        Self::new(socket).with_acknowledge(Socket::acknowledge)
    }
}

/// Calls `poll` with `transport` and whether `notify` was notified, and waits as `poll` returns. Drops
/// both when the connection is over, within the poll: there the executor catches a panic of a service that
/// is dropped.
// Not an async function, which would hold its arguments twice: a server has one for each connection.
pub(crate) fn drive<T>(
    transport: Transport<T>,
    notify: Arc<Notify>,
    clock: Clock,
    poll: impl FnMut(&mut PolledTransport<'_, '_, T>, bool) -> Step,
) -> impl Future<Output = ()> {
    let (mut connection, mut deadline) = (Some((transport, poll)), Deadline::new());
    poll_fn(move |cx| {
        let woken = notify.listen(cx);
        let Some((transport, poll)) = &mut connection else { return Poll::Ready(()) };
        match poll(&mut transport.polled(cx), woken) {
            Step::Closed => {
                // The transport first: the socket is closed when the connection counts no more.
                connection = None;
                return Poll::Ready(());
            }
            Step::Wait(it) if deadline.poll(it.until, clock.now(), cx).is_pending() => {}
            // After other tasks had their turn.
            Step::Yield | Step::Wait(_) => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    })
}
