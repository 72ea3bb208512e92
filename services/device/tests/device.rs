//! The device service over an in-memory transport.

#![cfg(test)]

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Waker;

use countersign::{Config, Instant, Key, Scheme};
use countersign_device::{DEFAULT_INTERVAL, Devices, Registry};
use countersign_driver::{Io, Progress, ServiceConnection};
use countersign_host::{
    PeerAddr, PoolOptions, Pools, ServerContext, ServerHandle, ServerOptions, SessionFactory,
    Stream,
};

/// Length of every buffer in bytes.
const BUFFER: usize = 1024;
const HEARTBEAT: &[u8] = b"\0\0\0\x02\0\x01";
const RESPONSE: &[u8] = b"\0\0\0\x02\x01\0";

/// A peer that has sent everything and finished, and reads `room` bytes.
struct Transport {
    sent: Vec<u8>,
    room: usize,
    received: Vec<u8>,
    shut: bool,
}

impl Io for Transport {
    type Error = Infallible;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Infallible> {
        let n = into.len().min(self.sent.len());
        into[..n].copy_from_slice(&self.sent[..n]);
        self.sent.drain(..n);
        Ok(Some(n))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Infallible> {
        let n = from.len().min(self.room);
        self.room -= n;
        self.received.extend_from_slice(&from[..n]);
        Ok((n > 0).then_some(n))
    }

    fn shut_write(&mut self) -> Result<(), Infallible> {
        self.shut = true;
        Ok(())
    }
}

#[test]
fn last_response_is_sent_after_back_pressure() {
    // The send buffer holds some of the responses; the next one waits, whichever it is.
    let fit = BUFFER / RESPONSE.len();
    let mut pools = PoolOptions::default();
    pools.buffer_len = BUFFER;
    let factory = SessionFactory::new(Config::new(Scheme::None), Pools::new(&pools));
    let handle = ServerHandle::of_tasks(Waker::noop().clone());
    let keys = Arc::new(None::<Key>).into();
    let context = ServerContext::new(Arc::new(factory), keys, ServerOptions::default(), handle);
    for requests in fit - 1..=fit + 2 {
        let devices = Devices::new(Registry::new(1), DEFAULT_INTERVAL);
        // Not used for input and output, which are in memory.
        let (stream, _peer) = UnixStream::pair().unwrap();
        let stream = Stream::Unix(stream);
        let mut guard = context.admit(&stream, PeerAddr::Unix, Instant::EPOCH).unwrap();
        let waker = Waker::noop();
        let begun = context.begin(&devices, &stream, PeerAddr::Unix, &mut guard, waker);
        let (protocol, service) = begun.unwrap();
        let mut connection = ServiceConnection::new(protocol, service);
        let sent = HEARTBEAT.repeat(requests);
        let mut io = Transport { sent, room: 0, received: Vec::new(), shut: false };
        let mut poll = |io: &mut Transport| loop {
            match connection.poll(io, &None::<Key>, Instant::EPOCH) {
                Progress::Yield | Progress::Event(_) => {}
                progress => break progress,
            }
        };
        assert!(matches!(poll(&mut io), Progress::Wait(interest) if interest.write), "{requests}");
        io.room = usize::MAX;
        assert!(matches!(poll(&mut io), Progress::Closed(Ok(()))), "{requests}");
        assert!(io.received == RESPONSE.repeat(requests) && io.shut, "{requests}");
    }
}
