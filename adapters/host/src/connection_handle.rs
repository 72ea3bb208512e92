//! What any thread may do with a connection of a server.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use countersign::{CloseReason, Error, Instant, Outbox, Peer, SendError};
use countersign_driver::{Context, QueueError, Service, ServiceError};

use crate::lease_holder::{Holder, LeaseHolder};
use crate::peer_addr::{PackedAddr, PeerAddr};
use crate::peer_identity::{PackedIdentity, PeerIdentity};
use crate::principal::AtomicPrincipal;
use crate::server_handle::ServerHandle;

/// A connection of a server, from any thread. Clones are the same connection.
///
/// It stays usable when the connection is over; sending then fails.
#[derive(Clone)]
pub struct ConnectionHandle(Arc<Shared>);

/// Kept small: every idle connection has one.
struct Shared {
    id: u64,
    addr: PackedAddr,
    server: ServerHandle,
    /// Messages are queued, or the connection is to be closed. Written under the lock, read without it: a
    /// service looks at this twice for each message.
    pending: AtomicBool,
    principal: AtomicPrincipal,
    state: Mutex<State>,
}

/// What wakes a connection of a server.
#[derive(Clone, Debug)]
pub enum ConnectionWaker {
    /// The waker of its thread or task. In a box, since most connections are those of a loop.
    Task(Box<Waker>),
    /// Its key in the [`WakeQueue`](crate::WakeQueue) of its server.
    Queued(usize),
}

impl From<&Waker> for ConnectionWaker {
    fn from(waker: &Waker) -> Self {
        Self::Task(Box::new(waker.clone()))
    }
}

#[derive(Default)]
struct State {
    /// Dropped when the connection is over: a waker may own a descriptor, or the memory of a task.
    waker: Option<ConnectionWaker>,
    /// Set when the handshake is over.
    peer: Option<PackedIdentity>,
    /// What waits to be sent. Most connections have nothing.
    queue: Option<Box<Queue>>,
    close: Option<Close>,
    closed: bool,
    /// The service sends messages for others.
    messages: bool,
    /// The longest of these messages; 4 GiB at most.
    max_message: u32,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Arc<[u8]>>,
    /// The bytes of all messages, and [`ENTRY`] for each.
    bytes: usize,
}

/// What a queued message takes beside its bytes. So the number of empty messages is bounded too.
const ENTRY: usize = 32;

/// How a connection is to be closed.
#[derive(Clone, Copy)]
pub(crate) enum Close {
    /// After what is queued.
    Finish,
    Abort(CloseReason),
}

/// Why a message was not taken by a [`ConnectionHandle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// Its queue has no room: the peer reads too slowly.
    Full,
    /// The message is too long for the connection.
    TooLong {
        /// The longest message, in bytes.
        max: usize,
    },
    /// The connection is over, or is being closed.
    Closed,
    /// A [`StreamService`](countersign_driver::StreamService) sends for itself.
    NotSupported,
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => {
                f.write_str("the peer reads too slowly: the queue of its connection is full")
            }
            Self::TooLong { max } => write!(f, "the message exceeds {max} bytes: raise the limit"),
            Self::Closed => f.write_str("the connection is closed"),
            Self::NotSupported => f.write_str("the service of the connection sends for itself"),
        }
    }
}

impl std::error::Error for HandleError {}

impl ConnectionHandle {
    pub(crate) fn new(
        id: u64,
        addr: PeerAddr,
        server: ServerHandle,
        waker: ConnectionWaker,
    ) -> Self {
        let state = Mutex::new(State { waker: Some(waker), ..State::default() });
        let (pending, principal) = (AtomicBool::new(false), AtomicPrincipal::default());
        Self(Arc::new(Shared { id, addr: addr.into(), server, pending, principal, state }))
    }

    /// The server that it is a connection of.
    pub(crate) fn server(&self) -> &ServerHandle {
        &self.0.server
    }

    /// A number that no other connection of the server has.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Where it comes from.
    #[must_use]
    pub fn addr(&self) -> PeerAddr {
        self.0.addr.unpack()
    }

    /// Who the peer is; `None` before the handshake is over.
    #[must_use]
    pub fn peer(&self) -> Option<PeerIdentity> {
        self.state().peer.as_ref().map(PackedIdentity::unpack)
    }

    /// Whether the handshake is over and the connection is not.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state().is_open()
    }

    /// Sends a message, after those that are queued. The queue holds one message of any permitted length,
    /// or several of together about as many bytes as the longest message.
    ///
    /// # Errors
    /// Every [`HandleError`]; nothing was sent then.
    pub fn send(&self, message: impl AsRef<[u8]>) -> Result<(), HandleError> {
        self.send_shared(message.as_ref().into())
    }

    /// As [`send`](Self::send), without a copy.
    pub(crate) fn send_shared(&self, message: Arc<[u8]>) -> Result<(), HandleError> {
        let mut state = self.state();
        if state.closed || state.close.is_some() {
            return Err(HandleError::Closed);
        }
        if !state.messages {
            return Err(HandleError::NotSupported);
        }
        let max = state.max_message as usize;
        if message.len() > max {
            return Err(HandleError::TooLong { max });
        }
        let queue = state.queue.get_or_insert_default();
        let bytes = queue.bytes.saturating_add(message.len() + ENTRY);
        if bytes > max && !queue.messages.is_empty() {
            return Err(HandleError::Full);
        }
        queue.bytes = bytes;
        queue.messages.push_back(message);
        self.set_pending(&state);
        drop(state);
        self.wake();
        Ok(())
    }

    /// Closes the connection in order, after what is queued. It is over when the peer has finished too, for
    /// which there is no time limit: [`abort`](Self::abort) ends it at once.
    pub fn close(&self) {
        self.request(Close::Finish);
    }

    /// Ends the connection with [`Error::Aborted`]. What the send buffer holds still goes out, within the
    /// deadline for sending. A service's connection in its handshake ends when that is over.
    pub fn abort(&self, why: CloseReason) {
        self.request(Close::Abort(why));
    }

    fn request(&self, close: Close) {
        let mut state = self.state();
        // An abort overrides an orderly close.
        if state.close.is_none() || matches!(close, Close::Abort(_)) {
            state.close = Some(close);
        }
        self.set_pending(&state);
        drop(state);
        self.wake();
    }

    /// Calls the service's `on_wake`.
    pub fn wake(&self) {
        self.0.wake_by_ref();
    }

    /// A waker that calls the service's `on_wake`.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state()
    }

    /// The service of the connection sends messages of at most `max` bytes for others, also those that are
    /// queued before the handshake is over.
    pub(crate) fn enable_messages(&self, max: usize) {
        let mut state = self.state();
        state.messages = true;
        state.max_message = u32::try_from(max).unwrap_or(u32::MAX);
    }

    pub(crate) fn set_peer(&self, peer: &Peer<'_>) {
        self.state().peer = Some(PackedIdentity::of(peer));
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        let state = self.state();
        state.is_open() && state.peer.as_ref().is_some_and(|peer| peer.name() == Some(name))
    }

    /// The service has been told of the end. The connection may go on closing, and is still woken.
    pub(crate) fn set_closed(&self) {
        let mut state = self.state();
        state.closed = true;
        let dropped = state.queue.take();
        drop(state);
        drop(dropped);
    }

    /// The connection is over.
    pub(crate) fn set_over(&self) {
        self.set_closed();
        let waker = self.state().waker.take();
        // Without the lock: dropping a waker may run code of the application's executor.
        drop(waker);
    }

    /// The holder of the connection's leases. It is the handle itself: an allocation less for each.
    pub(crate) fn lease_holder(&self) -> LeaseHolder {
        LeaseHolder::of(self.0.clone())
    }

    fn pop(&self) -> Option<Arc<[u8]>> {
        let mut state = self.state();
        let queue = state.queue.as_mut()?;
        let message = queue.messages.pop_front();
        match &message {
            Some(message) => queue.bytes -= message.len() + ENTRY,
            None => {
                state.queue = None;
                self.set_pending(&state);
            }
        }
        message
    }

    fn set_pending(&self, state: &State) {
        let pending = state.queue.is_some() || state.close.is_some();
        self.0.pending.store(pending, Ordering::Release);
    }

    /// Whether there may be something in the queue, or a request to close. A thread that adds one wakes the
    /// connection afterwards.
    fn is_pending(&self) -> bool {
        self.0.pending.load(Ordering::Acquire)
    }

    /// The service has finished: closes the connection as [`close`](Self::close) does.
    #[cold]
    fn set_finishing(&self) {
        let mut state = self.state();
        state.close.get_or_insert(Close::Finish);
        self.set_pending(&state);
    }

    pub(crate) fn close_request(&self) -> Option<Close> {
        if self.is_pending() { self.state().close } else { None }
    }

    /// What a stream service is to do.
    pub(crate) fn apply_to(&self, out: &mut Outbox<'_>) {
        match self.close_request() {
            Some(Close::Finish) => out.finish(),
            Some(Close::Abort(why)) => out.abort(why),
            None => {}
        }
    }

    fn has_queued(&self) -> bool {
        self.is_pending()
            && self.state().queue.as_ref().is_some_and(|queue| !queue.messages.is_empty())
    }
}

impl State {
    fn is_open(&self) -> bool {
        self.peer.is_some() && !self.closed && self.close.is_none()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code runs under the lock that could leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle is the waker of its connection: one allocation less for each.
impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Holder::wake(&**self);
    }
}

impl Holder for Shared {
    fn wake(&self) {
        let waker = self.state().waker.clone();
        match waker {
            Some(ConnectionWaker::Task(waker)) => waker.wake(),
            Some(ConnectionWaker::Queued(key)) => self.server.wake_connection(key),
            None => {}
        }
    }

    fn principal(&self) -> &AtomicPrincipal {
        &self.principal
    }
}

impl fmt::Debug for ConnectionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionHandle")
            .field("id", &self.0.id)
            .field("addr", &self.0.addr)
            .finish_non_exhaustive()
    }
}

/// A service whose connection has a handle: sends what others put into its queue.
#[derive(Debug)]
pub struct HandledService<S> {
    pub(crate) service: S,
    pub(crate) handle: ConnectionHandle,
}

impl<S> HandledService<S> {
    /// Calls the service. If it finishes, what others have queued is sent before, and they queue no more.
    fn call(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnOnce(&mut S, &mut Context<'_>) -> Result<(), ServiceError>,
    ) -> Result<(), ServiceError> {
        if self.handle.is_pending()
            && let Some(Close::Finish) = self.handle.close_request()
        {
            // It may still wait for what is queued; the service sends no more.
            cx.finish();
        }
        match call(&mut self.service, cx) {
            Ok(()) | Err(ServiceError::Send(SendError::Finished)) => {}
            error => return error,
        }
        if cx.take_finish() {
            self.handle.set_finishing();
        }
        if self.handle.is_pending() { self.drain(cx) } else { Ok(()) }
    }

    /// Sends what is queued, one message after the other has left the queue of the connection.
    #[cold]
    fn drain(&self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        while cx.queued() == 0
            && let Some(message) = self.handle.pop()
        {
            let sent = cx.send(&message);
            if let Err(QueueError::Send(SendError::Finished)) = sent {
                // The server has stopped the connection in order: reject further messages.
                self.handle.set_finishing();
            }
            sent?;
        }
        match self.handle.close_request() {
            Some(Close::Abort(why)) => Err(why.into()),
            Some(Close::Finish) if !self.handle.has_queued() => {
                cx.finish();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl<S: Service> Service for HandledService<S> {
    fn on_open(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.handle.set_peer(peer);
        self.call(cx, |service, cx| service.on_open(peer, cx))
    }

    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.call(cx, |service, cx| service.on_message(message, cx))
    }

    fn on_writable(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.call(cx, Service::on_writable)
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.call(cx, Service::on_wake)
    }

    fn on_finished(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.call(cx, Service::on_finished)
    }

    fn on_timeout(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.call(cx, Service::on_timeout)
    }

    fn is_idle(&self) -> bool {
        self.service.is_idle() && !self.handle.has_queued()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.service.poll_timeout()
    }

    fn on_closed(&mut self, result: Result<(), Error>) {
        self.handle.set_closed();
        self.service.on_closed(result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_has_room_again_for_each_message_that_left() {
        let server = ServerHandle::of_tasks(Waker::noop().clone());
        let registration = server.register(PeerAddr::Unix, Waker::noop().into());
        let handle = registration.handle();
        assert_eq!(handle.send(&b"0"[..]), Err(HandleError::NotSupported));
        handle.enable_messages(2 * ENTRY + 20);
        handle.send(&b"0123456789"[..]).unwrap();
        handle.send(&b"0123456789"[..]).unwrap();
        assert_eq!(handle.send(&b""[..]), Err(HandleError::Full));
        assert_eq!(handle.pop().unwrap().len(), 10);
        handle.send(&b"012345678"[..]).unwrap();
        assert_eq!(handle.send(&b""[..]), Err(HandleError::Full));
    }
}
