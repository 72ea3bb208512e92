//! A local socket that prints which devices are registered, for `serve --status`.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use countersign_device::Registry;
use countersign_host::{Address, Listener, Stream};
use rustix::event::{PollFd, PollFlags};

use crate::{Exit, Failed};

/// Threads that answer connections; more connections wait in the listen queue.
const THREADS: usize = 4;
/// How long a client may take to send its request; after that it gets the table.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait after accepting fails.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of a request that are read.
const MAX_REQUEST: usize = 16;

/// Answers requests for the contents of a registry of devices.
pub(crate) struct StatusServer {
    registry: Registry,
    listener: Option<Listener>,
}

impl StatusServer {
    /// Listens at `address`, if there is one. Connections are answered from [`start`](Self::start) on.
    ///
    /// # Errors
    /// If the address is reachable from other machines, or cannot be bound.
    pub(crate) fn new(registry: Registry, address: Option<&Address>) -> Result<Self, Failed> {
        let Some(address) = address else { return Ok(Self { registry, listener: None }) };
        if !is_local(address) {
            return Err(Failed::new(
                Exit::Usage,
                format!(
                    "--status {address}: other machines can connect there: give a loopback address or unix:/path"
                ),
            ));
        }
        let cannot =
            |error| Failed::new(Exit::Failure, format!("cannot listen on {address}: {error}"));
        let listener = address.listen(1).map_err(cannot)?.pop();
        Ok(Self { registry, listener })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Starts the threads that answer; returns the address.
    pub(crate) fn start(&self) -> io::Result<Option<Address>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        for _ in 0..THREADS {
            let listener = listener.try_clone()?;
            let registry = self.registry.clone();
            thread::spawn(move || answer(&listener, &registry));
        }
        listener.address().map(Some)
    }
}

/// Whether only this machine can connect to `address`.
fn is_local(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Tcp { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
    }
}

fn answer(listener: &Listener, registry: &Registry) {
    loop {
        match listener.accept() {
            // A client that closed its connection early needs no answer.
            Ok((stream, _)) => drop(respond(&stream, registry)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut wait = [PollFd::new(listener, PollFlags::IN)];
                // An error shows when accepting.
                let _ = rustix::event::poll(&mut wait, None);
            }
            Err(_) => thread::sleep(ACCEPT_PAUSE),
        }
    }
}

/// Reads a request, answers it and closes the connection, within the timeouts.
fn respond(stream: &Stream, registry: &Registry) -> io::Result<()> {
    let now = Instant::now();
    let (request_deadline, deadline) = (now + REQUEST_TIMEOUT, now + CONNECTION_TIMEOUT);
    let mut line = Vec::new();
    while line.len() < MAX_REQUEST
        && !line.contains(&b'\n')
        && set_deadline(stream, request_deadline)?
    {
        let mut bytes = [0; MAX_REQUEST];
        match stream.read(&mut bytes)? {
            Some(n) if n > 0 => line.extend_from_slice(&bytes[..n]),
            _ => break,
        }
    }
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = match line.trim_ascii() {
        b"" | b"table" => registry.table(),
        b"json" => registry.json(),
        _ => "unknown request: send json or table\n".into(),
    };
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() && set_deadline(stream, deadline)? {
        let Some(n) = stream.write(bytes)? else { break };
        bytes = &bytes[n..];
    }
    stream.shut_write()?;
    // Closing with unread input resets the connection, and the client could lose the answer.
    let drain_deadline = deadline.min(Instant::now() + REQUEST_TIMEOUT);
    while set_deadline(stream, drain_deadline)?
        && stream.read(&mut [0; 1024])?.is_some_and(|n| n > 0)
    {}
    Ok(())
}

/// Makes the next read or write time out at `deadline`. Returns `false` if that has passed.
fn set_deadline(stream: &Stream, deadline: Instant) -> io::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let left = Some(left.max(Duration::from_millis(1)));
    match stream {
        Stream::Tcp(stream) => {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(left)?;
            stream.set_write_timeout(left)?;
        }
        Stream::Unix(stream) => {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(left)?;
            stream.set_write_timeout(left)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_addresses_are_accepted() {
        for (address, local) in [
            ("127.0.0.1:0", true),
            ("127.5.5.5:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("unix:/tmp/s", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
            ("example.org:1", false),
        ] {
            assert_eq!(is_local(&address.parse().unwrap()), local, "{address}");
        }
    }
}
