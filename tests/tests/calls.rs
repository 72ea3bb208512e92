//! Any calls in any order: nothing panics, and what was promised for ever stays so.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{
    Candidates, Config, Digest, Error, Event, Framing, Instant, Key, KeyError, Mac, Machine, Nonce,
    Reason, Refuse, Rest, Role, Scheme, SendError, Session,
};
use countersign_tests::{Pools, Region, bytes, config, frame, tampered};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const SECRET: &[u8] = b"the key of both ends";
const DIGEST: Digest = Digest::Sha256;

#[derive(Clone, Debug)]
enum Call {
    PollEvent,
    ProvideKey(Answer),
    Send(Vec<u8>),
    SendPart(Vec<u8>, Rest),
    /// Room asked for, written to, and not sent.
    SendSpace(usize, Rest),
    OutboxFinish,
    Consume,
    Finish,
    Abort(Reason),
    /// Reads so many of the peer's bytes, and claims so many more.
    Read(usize, usize),
    /// Room asked for, and nothing read yet.
    Space,
    /// A claim to have read, whatever was asked for before.
    Received(usize),
    Eof,
    /// Time passes, and is let pass.
    Timeout(Duration),
    PollTransmit,
    Transmitted(usize),
    /// Leases are to be had, or not: to receive, to send.
    Dry(bool, bool),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Right,
    RightSecond,
    Wrong,
    OtherDigest,
    Refuse,
}

fn call() -> impl Strategy<Value = Call> {
    use Answer::{OtherDigest, Right, RightSecond, Wrong};
    let answer = prop_oneof![
        6 => Just(Right),
        2 => Just(RightSecond),
        1 => select(&[Wrong, OtherDigest, Answer::Refuse][..]),
    ];
    let rest =
        || prop_oneof![Just(Rest::End), Just(Rest::Unknown), (0..99_u64).prop_map(Rest::Bytes)];
    let many = || prop_oneof![8 => 0..100_usize, 1 => Just(usize::MAX)];
    let extra = prop_oneof![12 => Just(0), 1 => many()];
    let micros = prop_oneof![8 => 0..1_000_u64, 1 => 0..40_000_000_u64];
    let reason = select(&[Reason::Shutdown, Reason::Protocol, Reason::Timeout][..]);
    prop_oneof![
        30 => Just(Call::PollEvent),
        8 => answer.prop_map(Call::ProvideKey),
        6 => bytes(70).prop_map(Call::Send),
        4 => (bytes(70), rest()).prop_map(|(part, rest)| Call::SendPart(part, rest)),
        2 => (0..70_usize, rest()).prop_map(|(len, rest)| Call::SendSpace(len, rest)),
        1 => Just(Call::OutboxFinish),
        12 => Just(Call::Consume),
        1 => Just(Call::Finish),
        1 => reason.prop_map(Call::Abort),
        24 => (many(), extra).prop_map(|(n, extra)| Call::Read(n, extra)),
        4 => Just(Call::Space),
        2 => many().prop_map(Call::Received),
        1 => Just(Call::Eof),
        8 => micros.prop_map(|micros| Call::Timeout(Duration::from_micros(micros))),
        8 => Just(Call::PollTransmit),
        8 => many().prop_map(Call::Transmitted),
        4 => any::<[bool; 2]>().prop_map(|[receive, send]| Call::Dry(receive, send)),
    ]
}

fn key(digest: Digest, secret: &[u8]) -> Key {
    Key::challenge(digest, secret).unwrap()
}

/// What a peer of `role` might send.
fn stream(scheme: &Scheme, role: Role) -> impl Strategy<Value = Vec<u8>> + use<> {
    let handshake = match (scheme, role) {
        (Scheme::Challenge { digest }, Role::Client) => {
            Mac::new(*digest, SECRET).tag(&[0x6e; 32]).bytes().to_vec()
        }
        (Scheme::Challenge { .. }, Role::Server) => vec![0x42; 32],
        _ => Vec::new(),
    };
    let message = prop_oneof![bytes(20), bytes(150)];
    vec(message, 0..12).prop_flat_map(move |messages| {
        let mut honest = handshake.clone();
        honest.extend(messages.iter().flat_map(|message| frame(message)));
        prop_oneof![3 => Just(honest.clone()), 1 => tampered(honest)]
    })
}

fn end() -> impl Strategy<Value = (Scheme, Framing, Role, Vec<u8>)> {
    let scheme = prop_oneof![Just(Scheme::None), Just(Scheme::Challenge { digest: DIGEST })];
    let framing = select(&[Framing::Raw, Framing::U32][..]);
    let role = select(&[Role::Client, Role::Server][..]);
    (scheme, framing, role).prop_flat_map(|(scheme, framing, role)| {
        let peer = if role == Role::Client { Role::Server } else { Role::Client };
        stream(&scheme, peer).prop_map(move |stream| (scheme.clone(), framing, role, stream))
    })
}

/// A session, and what it has promised so far.
struct Watched {
    session: Session<Region>,
    pools: Pools,
    proves: bool,
    /// What the peer sends, how far it was read, and what the session took for it.
    stream: Vec<u8>,
    read: usize,
    taken: Vec<u8>,
    now: Instant,
    error: Option<Error>,
    asked: usize,
    established: bool,
    peer_finished: bool,
    finished: bool,
    closed: bool,
    part: bool,
    full: bool,
    done: bool,
    shutdown: bool,
}

impl Watched {
    fn new(scheme: Scheme, framing: Framing, role: Role, stream: Vec<u8>) -> Self {
        let pools = Pools::default();
        let proves = !matches!(scheme, Scheme::None) && role == Role::Server;
        let config = Config::new(scheme).with_framing(framing).with_max_frame(140);
        let nonce = Nonce::from_bytes([0x6e; Nonce::LEN]);
        let (buffers, now) = (pools.buffers(80, 64), Instant::EPOCH);
        let session = match role {
            Role::Client => Session::client(&config, nonce, buffers, now),
            Role::Server => Session::server(&config, nonce, buffers, now),
        };
        Self {
            session: session.unwrap(),
            pools,
            proves,
            stream,
            read: 0,
            taken: Vec::new(),
            now,
            error: None,
            asked: 0,
            established: false,
            peer_finished: false,
            finished: false,
            closed: false,
            part: false,
            full: false,
            done: false,
            shutdown: false,
        }
    }

    fn call(&mut self, call: &Call) {
        match call {
            Call::PollEvent => self.poll_event(),
            Call::ProvideKey(answer) => self.provide_key(*answer),
            Call::Send(message) => {
                let result = self.session.split().1.send(message);
                self.sent(result);
            }
            Call::SendPart(part, rest) => {
                let result = self.session.split().1.send_part(part, *rest);
                self.sent(result);
            }
            Call::SendSpace(len, rest) => {
                let wants_write = self.session.wants_write();
                let mut outbox = self.session.split().1;
                let result = outbox.send_space(*len, *rest).map(|space| {
                    assert_eq!(space.len(), *len);
                    space.fill(0xee);
                });
                self.sent(result);
                assert_eq!(self.session.wants_write(), wants_write);
            }
            Call::OutboxFinish => {
                self.session.split().1.finish();
                self.finished = true;
            }
            Call::Consume => {
                self.session.consume(self.now);
                self.part = false;
                assert_eq!(self.session.split().0, b"");
            }
            Call::Finish => {
                self.session.finish(self.now);
                self.finished = true;
            }
            Call::Abort(reason) => {
                self.session.abort(*reason, self.now);
                self.part = false;
            }
            Call::Read(n, extra) => self.read(*n, *extra),
            Call::Space => {
                self.session.recv_space();
            }
            Call::Received(n) => self.session.handle_received(*n, self.now),
            Call::Eof => self.session.handle_eof(self.now),
            Call::Timeout(by) => {
                self.now = self.now.saturating_add(*by);
                self.session.handle_timeout(self.now);
                let next = self.session.poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "a deadline that has passed");
            }
            Call::PollTransmit => {
                let wants_write = self.session.wants_write();
                assert_eq!(!self.session.poll_transmit(self.now).is_empty(), wants_write);
            }
            Call::Transmitted(n) => self.session.handle_transmitted(*n, self.now),
            Call::Dry(receive, send) => {
                self.pools.receive.set_dry(*receive);
                self.pools.send.set_dry(*send);
            }
        }
        self.check();
    }

    fn poll_event(&mut self) {
        let event = self.session.poll_event(self.now);
        if let Some(error) = self.error {
            assert_eq!(event, Err(error), "the error has changed");
            return;
        }
        let event = match event {
            Ok(None) => return,
            Ok(Some(event)) => event,
            Err(error) => {
                assert!(!self.closed, "an error after the end: {error:?}");
                assert_ne!(error, Error::Lost);
                self.error = Some(error);
                self.part = false;
                return;
            }
        };
        assert!(!self.closed, "{event:?} after Closed");
        match event {
            Event::KeyNeeded => {
                self.asked += 1;
                assert!(self.asked == 1 && !self.established);
                assert!(self.session.key_request().is_some());
            }
            Event::Established => {
                assert!(!self.established);
                self.established = true;
                let tag = Mac::new(DIGEST, SECRET).tag(&[0x6e; 32]);
                let proved = self.proves && self.taken.starts_with(tag.bytes());
                assert_eq!(self.session.peer().unwrap().authenticated, proved);
                assert_eq!(proved, self.proves, "without the right answer");
            }
            Event::Message { .. } => {
                assert!(self.established && !self.part && !self.peer_finished);
                self.part = true;
            }
            Event::Writable => {
                assert!(self.full, "room that nobody was promised");
                self.full = false;
            }
            Event::PeerFinished => {
                assert!(self.established && !self.part && !self.peer_finished);
                self.peer_finished = true;
            }
            Event::Closed => {
                assert!(self.peer_finished && self.finished);
                self.closed = true;
            }
            event => panic!("an event that this does not know: {event:?}"),
        }
    }

    fn provide_key(&mut self, answer: Answer) {
        let (right, wrong) = (key(DIGEST, SECRET), key(DIGEST, b"another key"));
        let other = key(Digest::Md5, SECRET);
        let answer = match answer {
            Answer::Right => Ok(Candidates::two(&right, &wrong)),
            Answer::RightSecond if self.proves => Ok(Candidates::two(&wrong, &right)),
            Answer::RightSecond | Answer::Wrong => Ok(Candidates::one(&wrong)),
            Answer::OtherDigest => Ok(Candidates::two(&right, &other)),
            Answer::Refuse => Err(Refuse::Unknown),
        };
        let asked = self.session.key_request().is_some();
        let result = self.session.provide_key(answer, self.now);
        match result {
            Ok(()) => assert!(asked && self.session.key_request().is_none()),
            Err(KeyError::NotAsked) => assert!(!asked),
            Err(KeyError::Purpose) => assert!(asked && self.session.key_request().is_some()),
            Err(error) => panic!("{error}"),
        }
    }

    fn sent(&mut self, result: Result<(), SendError>) {
        match result {
            Ok(()) => assert!(self.established && !self.finished && self.error.is_none()),
            Err(SendError::Full) => self.full = true,
            Err(SendError::Finished) => assert!(self.finished),
            Err(SendError::NotEstablished) => assert!(!self.established),
            Err(_) => {}
        }
    }

    fn read(&mut self, n: usize, extra: usize) {
        let wants = self.session.wants_read();
        let space = self.session.recv_space();
        assert!(wants || space.is_empty());
        if space.is_empty() {
            return;
        }
        let n = n.min(space.len()).min(self.stream.len() - self.read);
        space[..n].copy_from_slice(&self.stream[self.read..][..n]);
        let claimed = n.saturating_add(extra);
        self.taken.extend_from_slice(&space[..claimed.min(space.len())]);
        self.read += n;
        self.session.handle_received(claimed, self.now);
    }

    /// What holds after every call.
    fn check(&mut self) {
        let session = &self.session;
        assert!(!self.done || session.is_done(), "what was done is not");
        assert!(!self.shutdown || session.wants_shutdown(), "what was shut is open again");
        (self.done, self.shutdown) = (session.is_done(), session.wants_shutdown());
        assert_eq!(session.peer().is_some(), self.established);
        assert!(!session.wants_shutdown() || !session.wants_write());
        if self.done {
            assert!(!session.wants_read() && !session.wants_write());
            assert!(session.wants_shutdown() && !session.starved());
            assert_eq!(session.poll_timeout(), None);
        }
        if self.error.is_some() {
            assert!(!session.wants_read() && session.key_request().is_none());
            assert!(self.session.split().0.is_empty() && self.session.recv_space().is_empty());
        }
    }

    /// Ends it, has all that waits transmitted, and looks at what is left.
    fn end(mut self) {
        self.call(&Call::Abort(Reason::Application));
        loop {
            self.call(&Call::PollTransmit);
            if !self.session.wants_write() {
                break;
            }
            self.call(&Call::Transmitted(7));
        }
        self.call(&Call::PollEvent);
        assert!(self.closed || self.error.is_some());
        assert!(self.session.is_done());
        assert_eq!(self.pools.held(), 0);
    }
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn calls_in_any_order_break_no_promise(
        (scheme, framing, role, stream) in end(),
        calls in vec(call(), 0..150),
    ) {
        let mut watched = Watched::new(scheme, framing, role, stream);
        for call in &calls {
            watched.call(call);
        }
        watched.end();
    }

    /// With calls at random few handshakes are ever over.
    #[test]
    fn calls_in_any_order_to_an_open_session_break_no_promise(
        (scheme, framing, role, stream) in end(),
        calls in vec(call(), 0..150),
    ) {
        let mut watched = Watched::new(scheme, framing, role, stream);
        let open = [
            Call::PollEvent,
            Call::Read(usize::MAX, 0),
            Call::PollEvent,
            Call::ProvideKey(Answer::Right),
            Call::PollEvent,
        ];
        for call in open.iter().chain(&calls) {
            watched.call(call);
        }
        watched.end();
    }
}
