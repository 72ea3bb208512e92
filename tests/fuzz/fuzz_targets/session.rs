//! One session in either role, whose peer sends anything, in any pieces, and whose application
//! and driver make any choices. Nothing may panic; nobody authenticates without the key; an error
//! stays; what goes out is what was accepted.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use countersign::{
    Buffers, Candidates, Config, Digest, Error, Event, Framing, Instant, Key, Machine, Nonce,
    Reason, Refuse, Rest, Scheme, SendError, Session,
};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Setup {
    server: bool,
    challenge: bool,
    digest: u8,
    u32_framing: bool,
    max_frame: u16,
    receive: u8,
    send: u8,
    /// The peer of a server answers its challenge well: what follows is then open session.
    honest: bool,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Receive(&'a [u8]),
    Eof,
    Transmit(u8),
    Events(u8),
    Consume,
    Send(&'a [u8], Tail),
    Space(u8, Tail, bool),
    Finish,
    Abort(bool),
    Key(u8),
    Pass(u32),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Tail {
    End,
    Bytes(u16),
    Unknown,
}

impl From<Tail> for Rest {
    fn from(tail: Tail) -> Self {
        match tail {
            Tail::End => Self::End,
            Tail::Bytes(n) => Self::Bytes(n.into()),
            Tail::Unknown => Self::Unknown,
        }
    }
}

const SECRET: &[u8] = b"the fuzzer does not know this";

struct Fuzz {
    session: Session<Vec<u8>>,
    now: Instant,
    key: Key,
    error: Option<Error>,
    established: bool,
    closed: bool,
    at_hand: bool,
    /// Full was said and Writable is due.
    full: bool,
    transmitted: usize,
    accepted: usize,
    /// The peer did not read, and what waited for it was dropped.
    dropped: bool,
}

impl Fuzz {
    fn event(&mut self, honest: bool) -> bool {
        match self.session.poll_event(self.now) {
            Ok(None) => {
                assert_eq!(self.error, None, "an error went away");
                return false;
            }
            Ok(Some(event)) => {
                assert_eq!(self.error, None, "an event after an error");
                assert!(!self.closed, "an event after Closed");
                match event {
                    Event::Established => {
                        assert!(!self.established);
                        self.established = true;
                        let peer = self.session.peer().expect("who is talking");
                        assert!(!peer.authenticated || honest, "authenticated without the key");
                    }
                    Event::Message { .. } => {
                        assert!(self.established && !self.at_hand);
                        self.at_hand = true;
                        let (part, outbox) = self.session.split();
                        assert!(part.len() <= outbox.max_part());
                    }
                    Event::Writable => {
                        assert!(self.full, "Writable without Full");
                        self.full = false;
                    }
                    Event::Closed => self.closed = true,
                    _ => {}
                }
            }
            Err(error) => {
                assert!(self.error.is_none_or(|before| before == error), "the error changed");
                assert!(!self.closed, "an error after Closed");
                self.error = Some(error);
                self.at_hand = false;
                return false;
            }
        }
        true
    }

    fn receive(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.session.recv_space();
            if space.is_empty() {
                return;
            }
            let n = bytes.len().min(space.len());
            space[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.session.handle_received(n, self.now);
        }
    }

    fn sent(&mut self, result: Result<usize, SendError>) {
        match result {
            Ok(n) => {
                assert!(self.established && self.error.is_none());
                self.accepted += n;
            }
            Err(SendError::Full) => self.full = true,
            Err(_) => {}
        }
    }

    fn step(&mut self, step: Step<'_>, honest: bool) {
        match step {
            Step::Receive(bytes) => self.receive(bytes),
            Step::Eof => self.session.handle_eof(self.now),
            Step::Transmit(n) => {
                let pending = self.session.poll_transmit(self.now).len();
                let n = pending.min(n.into());
                self.session.handle_transmitted(n, self.now);
                self.transmitted += n;
            }
            Step::Events(n) => {
                for _ in 0..n {
                    if !self.event(honest) {
                        break;
                    }
                }
            }
            Step::Consume => {
                self.session.consume(self.now);
                self.at_hand = false;
            }
            Step::Send(bytes, tail) => {
                let sent = self.session.split().1.send_part(bytes, tail.into());
                self.sent(sent.map(|()| bytes.len()));
            }
            Step::Space(len, tail, commit) => {
                let mut outbox = self.session.split().1;
                let space = outbox.send_space(len.into(), tail.into()).map(|space| space.fill(7));
                if commit {
                    outbox.commit();
                }
                let accepted = if commit { len.into() } else { 0 };
                self.sent(space.map(|()| accepted));
            }
            Step::Finish => self.session.finish(self.now),
            Step::Abort(false) => self.session.abort(Reason::Application, self.now),
            Step::Abort(true) => self.session.split().1.abort(Reason::Application),
            Step::Key(0) => {
                let _ = self.session.provide_key(Err(Refuse::Unknown), self.now);
            }
            Step::Key(_) => {
                let candidates = Candidates::two(&self.key, &self.key);
                let _ = self.session.provide_key(Ok(candidates), self.now);
            }
            Step::Pass(micros) => {
                self.now = self.now.saturating_add(Duration::from_micros(micros.into()));
                let pending = self.session.wants_write();
                self.session.handle_timeout(self.now);
                self.dropped |= pending && !self.session.wants_write();
            }
        }
    }
}

fuzz_target!(|input: (Setup, Vec<Step<'_>>)| {
    let (setup, steps) = input;
    let digest = Digest::ALL[usize::from(setup.digest) % Digest::ALL.len()];
    let scheme = if setup.challenge { Scheme::Challenge { digest } } else { Scheme::None };
    let framing = if setup.u32_framing { Framing::U32 } else { Framing::Raw };
    let config = Config::new(scheme).with_framing(framing).with_max_frame(setup.max_frame.into());
    let buffers = Buffers {
        handshake: vec![0; config.handshake_len()],
        receive: vec![0; Config::MIN_BUFFER + usize::from(setup.receive)],
        send: vec![0; Config::MIN_BUFFER + usize::from(setup.send)],
    };
    let key = Key::challenge(digest, SECRET).expect("a good key");
    let nonce = Nonce::from_bytes([setup.digest; Nonce::LEN]);
    let now = Instant::EPOCH;
    let make = if setup.server { Session::server } else { Session::client };
    let session = make(&config, nonce, buffers, now).expect("long enough buffers");
    let honest = setup.honest && setup.server && setup.challenge;
    let mut fuzz = Fuzz {
        session,
        now,
        key,
        error: None,
        established: false,
        closed: false,
        at_hand: false,
        full: false,
        transmitted: 0,
        accepted: 0,
        dropped: false,
    };
    if honest {
        let challenge = fuzz.session.poll_transmit(now).to_vec();
        fuzz.session.handle_transmitted(challenge.len(), now);
        let answer = countersign::Mac::new(digest, SECRET).tag(&challenge);
        fuzz.receive(answer.bytes());
        while fuzz.event(honest) {
            if fuzz.session.key_request().is_some() {
                fuzz.step(Step::Key(1), honest);
            }
        }
        assert!(fuzz.established);
    }
    for step in steps {
        fuzz.step(step, honest);
    }
    while fuzz.event(honest) && !fuzz.at_hand {}
    loop {
        let pending = fuzz.session.poll_transmit(fuzz.now).len();
        if pending == 0 {
            break;
        }
        fuzz.session.handle_transmitted(pending, fuzz.now);
        fuzz.transmitted += pending;
    }
    // Only a peer that does not read makes us drop what was accepted.
    assert!(fuzz.dropped || fuzz.transmitted >= fuzz.accepted, "accepted bytes were lost");
});
