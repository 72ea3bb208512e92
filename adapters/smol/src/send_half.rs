//! The sending half of a connection.

use countersign_host::CallError;
use futures_io::{AsyncRead, AsyncWrite};

use crate::connection::Connection;
use crate::socket::Socket;

/// The half of a [`Connection`] that sends.
#[derive(Debug)]
pub struct SendHalf<T = Socket>(pub(crate) Connection<T>);

impl<T: AsyncRead + AsyncWrite + Unpin> SendHalf<T> {
    /// As [`Connection::send`].
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn send(&self, message: &[u8]) -> Result<(), CallError> {
        self.0.send(message).await
    }

    /// As [`Connection::finish`].
    ///
    /// # Errors
    /// As [`Connection::finish`].
    pub async fn finish(&self) -> Result<(), CallError> {
        self.0.finish().await
    }
}
