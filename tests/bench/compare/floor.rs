//! The floor: loops of one thread, over mio, that read and write what a server of ours reads and writes,
//! and know no protocol. One is over TCP alone, one inside TLS by rustls.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use slab::Slab;

/// Length of the buffer that all connections share, in bytes.
const BUFFER: usize = 64 << 10;
const LISTENER: Token = Token(usize::MAX);
/// Length of a challenge, and of an answer to it.
const CHALLENGE: usize = 32;

/// A connection.
trait Peer: Sized {
    fn socket(&mut self) -> &mut TcpStream;

    /// Sends back all that has come, until there is no more, or no room. Whether that was all for good.
    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<bool>;
}

/// Sends bytes back: inside TLS, or after a challenge to which any answer is right, or as they are.
pub(crate) fn run(which: &str) {
    match which {
        "tls" => {
            let config = config();
            serve(|stream| {
                let tls = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
                Ok(Tls { stream, tls, unsent: Vec::new() })
            });
        }
        "challenge" => serve(|mut stream| {
            stream.write_all(&[7; CHALLENGE])?;
            Ok(Plain { stream, unsent: Vec::new(), unanswered: CHALLENGE })
        }),
        _ => serve(|stream| Ok(Plain { stream, unsent: Vec::new(), unanswered: 0 })),
    }
}

/// What rustls needs, with the certificate that is in the working directory.
fn config() -> Arc<ServerConfig> {
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

fn serve<P: Peer>(mut make: impl FnMut(TcpStream) -> io::Result<P>) {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).unwrap();
    println!("LISTENING 127.0.0.1 {}", listener.local_addr().unwrap().port());
    let mut peers = Slab::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        if poll.poll(&mut events, None).is_err_and(|error| error.kind() != ErrorKind::Interrupted) {
            return;
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true).unwrap();
                    let entry = peers.vacant_entry();
                    let mut peer = make(stream).unwrap();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(peer.socket(), Token(entry.key()), interest).unwrap();
                    entry.insert(peer);
                }
            } else if let Some(peer) = peers.get_mut(event.token().0)
                && peer.turn(&mut buffer).unwrap_or(true)
            {
                peers.remove(event.token().0);
            }
        }
    }
}

/// `None` is nothing now.
fn now<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

struct Plain {
    stream: TcpStream,
    /// What there was no room for.
    unsent: Vec<u8>,
    /// How much of its answer has not come.
    unanswered: usize,
}

impl Peer for Plain {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        loop {
            while !self.unsent.is_empty() {
                let Some(n) = now(self.stream.write(&self.unsent))? else { return Ok(false) };
                self.unsent.drain(..n);
            }
            let into = match self.unanswered {
                0 => &mut *buffer,
                n => &mut buffer[..n],
            };
            let Some(n) = now(self.stream.read(into))? else { return Ok(false) };
            if n == 0 {
                return Ok(true);
            }
            let emptied = n < into.len();
            if self.unanswered > 0 {
                self.unanswered -= n;
            } else {
                let sent = now(self.stream.write(&buffer[..n]))?.unwrap_or(0);
                self.unsent.extend_from_slice(&buffer[sent..n]);
            }
            // What comes later is an event of its own.
            if emptied {
                return Ok(false);
            }
        }
    }
}

struct Tls {
    stream: TcpStream,
    tls: ServerConnection,
    /// What rustls had no room for.
    unsent: Vec<u8>,
}

impl Peer for Tls {
    fn socket(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn turn(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let (input, plain) = buffer.split_at_mut(BUFFER / 2);
        while self.flush()? {
            let Some(n) = now(self.stream.read(input))? else { return Ok(false) };
            if n == 0 {
                return Ok(true);
            }
            // From memory: rustls itself would read 4 KiB at a time.
            let mut left = &input[..n];
            while !left.is_empty() {
                self.tls.read_tls(&mut left)?;
                self.tls.process_new_packets().map_err(io::Error::other)?;
                while let Some(n @ 1..) = now(self.tls.reader().read(plain))? {
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

impl Tls {
    /// Writes what there is to write. Whether that was all.
    fn flush(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            if now(self.tls.write_tls(&mut self.stream))?.is_none() {
                return Ok(false);
            }
            let taken = self.tls.writer().write(&self.unsent)?;
            self.unsent.drain(..taken);
        }
        Ok(true)
    }
}
