//! The service of devices, over a transport in memory.

#![cfg(test)]

use std::convert::Infallible;
use std::task::Waker;

use countersign::{Buffers, Config, Instant, Key, Nonce, Scheme, Session};
use countersign_device::DEFAULT_INTERVAL;
use countersign_device::{Devices, Registry};
use countersign_driver::{Connection, Io, Progress};
use countersign_host::{Open, PeerAddr};

/// Length of every buffer in bytes.
const BUFFER: usize = 1024;
const HEARTBEAT: &[u8] = b"\0\0\0\x02\0\x01";
const ANSWER: &[u8] = b"\0\0\0\x02\x01\0";

/// A peer that has sent all that it will, and takes what there is room for.
struct Transport {
    sent: Vec<u8>,
    room: usize,
    heard: Vec<u8>,
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
        self.heard.extend_from_slice(&from[..n]);
        Ok((n > 0).then_some(n))
    }

    fn shut_write(&mut self) -> Result<(), Infallible> {
        self.shut = true;
        Ok(())
    }
}

#[test]
fn the_last_answer_is_sent_though_there_was_no_room_for_it_when_the_device_finished() {
    // The send side holds some of the answers, and the next one waits: whichever it is, it comes.
    let fit = BUFFER / ANSWER.len();
    for asked in fit - 1..=fit + 2 {
        let devices = Devices::new(Registry::new(1), DEFAULT_INTERVAL);
        let buffer = || vec![0; BUFFER];
        let buffers = Buffers { handshake: buffer(), receive: buffer(), send: buffer() };
        let nonce = Nonce::from_bytes([1; Nonce::LEN]);
        let config = Config::new(Scheme::None);
        let session = Session::server(&config, nonce, buffers, Instant::EPOCH).unwrap();
        let service = devices.open(&PeerAddr::Unix, Waker::noop().clone());
        let mut connection = Connection::new(Box::new(session), service);
        let sent = HEARTBEAT.repeat(asked);
        let mut io = Transport { sent, room: 0, heard: Vec::new(), shut: false };
        let mut turn = |io: &mut Transport| loop {
            match connection.turn(io, &None::<Key>, Instant::EPOCH) {
                Progress::Yield => {}
                turn => break turn,
            }
        };
        assert!(matches!(turn(&mut io), Progress::Wait(wait) if wait.write), "{asked}");
        io.room = usize::MAX;
        assert!(matches!(turn(&mut io), Progress::Closed(Ok(()))), "{asked}");
        assert!(io.heard == ANSWER.repeat(asked) && io.shut, "{asked}: {}", io.heard.len());
    }
}
