//! The receiving half of a connection.

use countersign_host::{CallError, OwnedChunk};
use futures_io::{AsyncRead, AsyncWrite};

use crate::connection::Connection;
use crate::socket::Socket;

/// The half of a [`Connection`] that receives.
#[derive(Debug)]
pub struct RecvHalf<T = Socket>(pub(crate) Connection<T>);

impl<T: AsyncRead + AsyncWrite + Unpin> RecvHalf<T> {
    /// As [`Connection::recv`].
    ///
    /// # Errors
    /// As [`Connection::recv`].
    pub async fn recv(&self) -> Result<Option<Vec<u8>>, CallError> {
        self.0.recv().await
    }

    /// As [`Connection::recv_chunk`].
    ///
    /// # Errors
    /// As [`Connection::recv_chunk`].
    pub async fn recv_chunk(&self) -> Result<Option<OwnedChunk>, CallError> {
        self.0.recv_chunk().await
    }
}
