//! Which devices there are, told to whoever may ask.

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use countersign_device::Registry;
use countersign_host::{Address, Listener, Stream};
use tracing::info;

use crate::{Exit, Failed};

/// Who may be told at once; others wait.
const AT_ONCE: usize = 4;
/// How long somebody may take to say what they want; then it is the table.
const ASKING: Duration = Duration::from_secs(1);
/// How long they may take for all of it.
const ALL: Duration = Duration::from_secs(5);
/// How long to leave the listener alone when accepting fails.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest line that is read.
const LINE: usize = 16;

/// The registry, and who is told of it.
pub(crate) struct Status {
    registry: Registry,
    listener: Option<Listener>,
}

impl Status {
    /// Listens at `address`, if there is one; nobody is answered before [`start`](Self::start).
    pub(crate) fn new(registry: Registry, address: Option<&Address>) -> Result<Self, Failed> {
        let Some(address) = address else { return Ok(Self { registry, listener: None }) };
        if !is_local(address) {
            return Err(Failed::new(
                Exit::Usage,
                format!(
                    "--status {address}: anybody could ask there: give a loopback address or unix:/path"
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

    /// Answers from now on; returns where.
    pub(crate) fn start(&self) -> io::Result<Option<Address>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        for _ in 0..AT_ONCE {
            let listener = match listener {
                Listener::Tcp(listener) => {
                    listener.set_nonblocking(false)?;
                    Listener::Tcp(listener.try_clone()?)
                }
                Listener::Unix(listener) => {
                    listener.set_nonblocking(false)?;
                    Listener::Unix(listener.try_clone()?)
                }
            };
            let registry = self.registry.clone();
            thread::spawn(move || answer(&listener, &registry));
        }
        listener.address().map(Some)
    }

    /// Logs the table, a line each, and the JSON.
    pub(crate) fn log(&self) {
        for line in self.registry.table().lines() {
            info!(target: "countersign", "devices {line}");
        }
        info!(target: "countersign", "devices {}", self.registry.json().trim_end());
    }
}

/// Whether only this machine can connect there.
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
            // Whoever went away meanwhile has lost nothing.
            Ok((stream, _)) => drop(talk(&stream, registry)),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Reads a line, answers it, and hangs up, all in good time.
fn talk(stream: &Stream, registry: &Registry) -> io::Result<()> {
    let now = Instant::now();
    let (asking, all) = (now + ASKING, now + ALL);
    let mut line = Vec::new();
    while line.len() < LINE && !line.contains(&b'\n') && wait(stream, asking)? {
        let mut bytes = [0; LINE];
        match stream.read(&mut bytes)? {
            Some(n) if n > 0 => line.extend_from_slice(&bytes[..n]),
            _ => break,
        }
    }
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = match line.trim_ascii() {
        b"" | b"table" => registry.table(),
        b"json" => registry.json(),
        _ => "unknown: say json or table\n".into(),
    };
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() && wait(stream, all)? {
        let Some(n) = stream.write(bytes)? else { break };
        bytes = &bytes[n..];
    }
    stream.shut_write()?;
    // Closed with input unread it could be reset, and what was written lost.
    let leave = all.min(Instant::now() + ASKING);
    while wait(stream, leave)? && stream.read(&mut [0; 1024])?.is_some_and(|n| n > 0) {}
    Ok(())
}

/// Has the next read or write wait until then and no longer; `false` when that is past.
fn wait(stream: &Stream, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
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
    fn strangers_cannot_ask() {
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
