//! A connection as a stream and a sink.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use countersign_host::{Call, CallConnection, CallError, Sending};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use futures_sink::Sink;

use crate::connection::Connection;

/// A [`Connection`] as a stream of the peer's messages and a sink of ours. `C` is a reference to the
/// connection, or an `Arc` of it. One connection may have any number of these, and of other calls.
///
/// *The stream* yields what [`Connection::recv`] returns, and ends where the peer's messages do. It goes on
/// after [`CallError::TimedOut`]; any other error ends it.
///
/// *The sink* holds one message at a time: it is ready when the last one has left. The connection takes the
/// message of [`start_send`](Sink::start_send) in one of the next polls of the sink, and until then it is
/// lost if the sink is dropped; see [`Connection`] for the rest. After [`CallError::TimedOut`] the message
/// is still held, and sent when the sink is polled again; after any other error it is dropped. Closing the
/// sink is [`Connection::finish`].
#[derive(Debug)]
pub struct MessageStream<C> {
    connection: C,
    receiving: Option<Call>,
    /// The stream has ended.
    ended: bool,
    sending: Option<(Sending<'static>, Call)>,
    closing: bool,
}

impl<C> MessageStream<C> {
    /// The messages of `connection`.
    pub fn new(connection: C) -> Self {
        Self { connection, receiving: None, ended: false, sending: None, closing: false }
    }
}

impl<C, T> MessageStream<C>
where
    C: Deref<Target = Connection<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Ready when nothing is held any more.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let Some((sending, call)) = &mut self.sending else { return Poll::Ready(Ok(())) };
        // A message that is held is not refused as `Busy`: it stays.
        let mut send = |it: &mut CallConnection, _| it.send(sending);
        let sent = ready!(self.connection.poll(call, cx, &mut send));
        match sent {
            Err(CallError::TimedOut) => *call = self.connection.shared.begin_call(),
            _ => self.sending = None,
        }
        Poll::Ready(sent)
    }
}

impl<C, T> Stream for MessageStream<C>
where
    C: Deref<Target = Connection<T>> + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Item = Result<Vec<u8>, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { connection, receiving, ended, .. } = &mut *self;
        if *ended {
            return Poll::Ready(None);
        }
        let call = receiving.get_or_insert_with(|| connection.shared.begin_call());
        let received = ready!(connection.poll(call, cx, &mut CallConnection::recv));
        *receiving = None;
        *ended = !matches!(received, Ok(Some(_)) | Err(CallError::TimedOut));
        Poll::Ready(received.transpose())
    }
}

impl<C, T> Sink<Vec<u8>> for MessageStream<C>
where
    C: Deref<Target = Connection<T>> + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Error = CallError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.poll_sent(cx)
    }

    /// Holds `message`; [`CallError::Busy`] if another one is held, which is never so when the sink is
    /// ready.
    fn start_send(mut self: Pin<&mut Self>, message: Vec<u8>) -> Result<(), CallError> {
        if self.sending.is_some() {
            return Err(CallError::Busy);
        }
        self.sending = Some((Sending::message(message), self.connection.shared.begin_call()));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        self.poll_sent(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        ready!(self.poll_sent(cx))?;
        if !self.closing {
            self.closing = true;
            self.sending = Some((Sending::finish(), self.connection.shared.begin_call()));
        }
        self.poll_sent(cx)
    }
}
