//! A client as those see it who speak of streams and sinks.

use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use countersign_host::{ClientError, Post};
use futures_core::Stream;
use futures_io::{AsyncRead, AsyncWrite};
use futures_sink::Sink;

use crate::client::{Call, Client, NO_KEYS};

/// A [`Client`] as a stream of the peer's messages and a sink of ours. `C` is a reference to the client, or
/// an `Arc` of it. There may be any number of these, and of calls beside them, for one client.
///
/// *The stream* has what [`Client::recv`] returns, and ends where the peer does. It goes on after
/// [`ClientError::TimedOut`], and after any other error it has ended.
///
/// *The sink* holds one message at a time: it is ready when the last has left. What
/// [`start_send`](Sink::start_send) was given is taken by the client in one of the next polls of the sink,
/// and until then it is lost if the sink is dropped; see [`Client`] for the rest. After
/// [`ClientError::TimedOut`] it is still held, and sent as the sink is polled again; after any other error
/// it is not sent. To close it is to [`finish`](Client::finish).
#[derive(Debug)]
pub struct Messages<C> {
    client: C,
    receiving: Option<Call>,
    /// The stream has.
    ended: bool,
    sending: Option<(Post, Call)>,
    closing: bool,
}

impl<C> Messages<C> {
    /// The messages of `client`.
    pub fn of(client: C) -> Self {
        Self { client, receiving: None, ended: false, sending: None, closing: false }
    }
}

impl<C, T> Messages<C>
where
    C: Deref<Target = Client<T>>,
    T: AsyncRead + AsyncWrite + Unpin,
{
    /// Whether nothing is held any more.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        let Some((post, call)) = &mut self.sending else { return Poll::Ready(Ok(())) };
        let sent = ready!(self.client.poll(call, cx, &NO_KEYS, |caller| caller.post(post)));
        match sent {
            Err(ClientError::TimedOut) => *call = self.client.begin(),
            _ => self.sending = None,
        }
        Poll::Ready(sent)
    }
}

impl<C, T> Stream for Messages<C>
where
    C: Deref<Target = Client<T>> + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Item = Result<Vec<u8>, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { client, receiving, ended, .. } = &mut *self;
        if *ended {
            return Poll::Ready(None);
        }
        let call = receiving.get_or_insert_with(|| client.begin());
        let max = client.max_message();
        let received = ready!(client.poll(call, cx, &NO_KEYS, |caller| caller.recv(max)));
        *receiving = None;
        *ended = !matches!(received, Ok(Some(_)) | Err(ClientError::TimedOut));
        Poll::Ready(received.transpose())
    }
}

impl<C, T> Sink<Vec<u8>> for Messages<C>
where
    C: Deref<Target = Client<T>> + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Error = ClientError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.poll_sent(cx)
    }

    /// Holds `message`; [`ClientError::Busy`] if another is held, as it never is when the sink is ready.
    fn start_send(mut self: Pin<&mut Self>, message: Vec<u8>) -> Result<(), ClientError> {
        if self.sending.is_some() {
            return Err(ClientError::Busy);
        }
        self.sending = Some((Post::message(message), self.client.begin()));
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.poll_sent(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        ready!(self.poll_sent(cx))?;
        if !self.closing {
            self.closing = true;
            self.sending = Some((Post::finish(), self.client.begin()));
        }
        self.poll_sent(cx)
    }
}
