//! The floor: single-threaded echo loops over mio without a protocol, which read and write the same
//! bytes as a server of ours. One uses TCP alone, the other rustls.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use slab::Slab;

/// Length of the buffer that all connections share, in bytes.
const BUFFER_LEN: usize = 64 << 10;
const LISTENER: Token = Token(usize::MAX);
/// Length of a challenge and of its response, in bytes.
const CHALLENGE_LEN: usize = 32;

/// A connection to a client.
trait Connection: Sized {
    fn socket(&mut self) -> &mut TcpStream;

    /// Echoes until reading or writing would block. Returns whether the client has closed.
    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<bool>;
}

/// Runs the floor for `scheme`: inside TLS for `tls`; after a challenge for `challenge`, which
/// accepts any response; without a handshake for all others.
pub(crate) fn run(scheme: &str) {
    match scheme {
        "tls" => {
            let config = tls_config();
            serve(|stream| {
                let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Ok(TlsConnection { stream, tls, unsent: Vec::new() })
            });
        }
        "challenge" => serve(|mut stream| {
            stream.write_all(&[7; CHALLENGE_LEN])?;
            Ok(TcpConnection { stream, unsent: Vec::new(), response_remaining: CHALLENGE_LEN })
        }),
        _ => {
            serve(|stream| Ok(TcpConnection { stream, unsent: Vec::new(), response_remaining: 0 }));
        }
    }
}

/// A configuration with the certificate in the working directory.
fn tls_config() -> Arc<ServerConfig> {
    let certificates = CertificateDer::pem_file_iter("server.crt").unwrap();
    let key = PrivateKeyDer::from_pem_file("server.key").unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.map(Result::unwrap).collect(), key);
    Arc::new(config.unwrap())
}

fn serve<C: Connection>(mut make: impl FnMut(TcpStream) -> io::Result<C>) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    println!("LISTENING 127.0.0.1 {}", listener.local_addr().unwrap().port());
    let mut connections = Slab::new();
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        if poll.poll(&mut events, None).is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
            return;
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true).unwrap();
                    let entry = connections.vacant_entry();
                    let mut connection = make(stream).unwrap();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry()
                        .register(connection.socket(), Token(entry.key()), interest)
                        .unwrap();
                    entry.insert(connection);
                }
            } else if let Some(connection) = connections.get_mut(event.token().0)
                && connection.echo(&mut buffer).unwrap_or(true)
            {
                connections.remove(event.token().0);
            }
        }
    }
}

/// `None` if the operation would block.
fn nonblocking<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

struct TcpConnection {
    stream: TcpStream,
    /// Bytes that the socket did not take.
    unsent: Vec<u8>,
    /// Bytes of the response that have not arrived.
    response_remaining: usize,
}

impl Connection for TcpConnection {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            while !self.unsent.is_empty() {
                let Some(n) = nonblocking(self.stream.write(&self.unsent))? else {
                    return Ok(false);
                };
                self.unsent.drain(..n);
            }
            let space = match self.response_remaining {
                0 => &mut *buffer,
                n => &mut buffer[..n],
            };
            let Some(n) = nonblocking(self.stream.read(space))? else { return Ok(false) };
            if n == 0 {
                return Ok(true);
            }
            let drained = n < space.len();
            if self.response_remaining > 0 {
                self.response_remaining -= n;
            } else {
                let sent = nonblocking(self.stream.write(&buffer[..n]))?.unwrap_or(0);
                self.unsent.extend_from_slice(&buffer[sent..n]);
            }
            // Bytes that arrive later cause another event.
            if drained {
                return Ok(false);
            }
        }
    }
}

struct TlsConnection {
    stream: TcpStream,
    tls: ServerConnection,
    /// Plaintext that rustls did not take.
    unsent: Vec<u8>,
}

impl Connection for TlsConnection {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn echo(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let (input, plain) = buffer.split_at_mut(BUFFER_LEN / 2);
        while self.flush()? {
            let Some(n) = nonblocking(self.stream.read(input))? else { return Ok(false) };
            if n == 0 {
                return Ok(true);
            }
            // Passed from memory, since rustls reads only 4 KiB at a time from a socket.
            let mut unread = &input[..n];
            while !unread.is_empty() {
                self.tls.read_tls(&mut unread)?;
                self.tls.process_new_packets().map_err(io::Error::other)?;
                while let Some(n @ 1..) = nonblocking(self.tls.reader().read(plain))? {
                    let taken = self.tls.writer().write(&plain[..n])?;
                    self.unsent.extend_from_slice(&plain[taken..n]);
                }
            }
            if n < input.len() {
                self.flush()?;
                return Ok(false);
            }
        }
        Ok(false)
    }
}

impl TlsConnection {
    /// Writes pending records and plaintext. Returns whether all were written.
    fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            if nonblocking(self.tls.write_tls(&mut self.stream))?.is_none() {
                return Ok(false);
            }
            let taken = self.tls.writer().write(&self.unsent)?;
            self.unsent.drain(..taken);
        }
        Ok(true)
    }
}
