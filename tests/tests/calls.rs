//! Any calls in any order: nothing panics, and what was promised for ever stays so.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{
    Candidates, CloseReason, Config, Digest, Error, Event, Instant, Key, KeyError, KeyRejection,
    Protocol, Purpose, Remaining, Role, SendError, Session,
};
use countersign_tests::{
    ANOTHER_SECRET, Cover, EXPORTER, Honest, Pools, Region, SECRET, Speech, Stream, bytes, config,
    framing, multiprocessing, role, says, tampered,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const DIGEST: Digest = Digest::Sha256;

#[derive(Clone, Debug)]
enum Call {
    PollEvent,
    ProvideKey(Answer),
    Send(Vec<u8>),
    SendPart(Vec<u8>, Remaining),
    /// Room asked for, written to, and not sent.
    SendSpace(usize, Remaining),
    OutboxFinish,
    Consume,
    Finish,
    Abort(CloseReason),
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
    /// The TLS connection it is in is known: the peer's, or another.
    Bind(bool),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Right,
    RightSecond,
    Wrong,
    OtherPurpose,
    KeyRejection,
}

fn call() -> impl Strategy<Value = Call> {
    use Answer::{OtherPurpose, Right, RightSecond, Wrong};
    let answer = prop_oneof![
        6 => Just(Right),
        2 => Just(RightSecond),
        1 => select(&[Wrong, OtherPurpose, Answer::KeyRejection][..]),
    ];
    let remaining = || {
        prop_oneof![
            Just(Remaining::End),
            Just(Remaining::Unknown),
            (0..99_u64).prop_map(Remaining::Bytes)
        ]
    };
    let many = || prop_oneof![8 => 0..100_usize, 1 => Just(usize::MAX)];
    let extra = prop_oneof![12 => Just(0), 1 => many()];
    let micros = prop_oneof![8 => 0..1_000_u64, 2 => 0..3_000_000_u64, 1 => 0..40_000_000_u64];
    let reason = select(&[CloseReason::Shutdown, CloseReason::Protocol, CloseReason::Timeout][..]);
    prop_oneof![
        30 => Just(Call::PollEvent),
        8 => answer.prop_map(Call::ProvideKey),
        6 => bytes(70).prop_map(Call::Send),
        4 => (bytes(70), remaining()).prop_map(|(chunk, remaining)| Call::SendPart(chunk, remaining)),
        2 => (0..70_usize, remaining()).prop_map(|(len, remaining)| Call::SendSpace(len, remaining)),
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
        2 => prop_oneof![4 => Just(true), 1 => Just(false)].prop_map(Call::Bind),
    ]
}

fn speech() -> impl Strategy<Value = Speech> {
    prop_oneof![
        framing().prop_map(Speech::None),
        framing().prop_map(|framing| Speech::Challenge(DIGEST, framing)),
        multiprocessing(),
        select(&Cover::ALL[..]).prop_map(Speech::Mutual),
        select(&Cover::ALL[..]).prop_map(Speech::Mutual),
    ]
}

fn session(speech: Speech, role: Role, pools: &Pools, bound: bool) -> Session<Region> {
    let config = speech.config(role, Honest::HEARTBEAT).with_max_frame(140);
    let sizes = (config.receive_len() + 16, Config::MIN_BUFFER);
    if bound {
        speech.end(role, &config, pools, sizes)
    } else {
        speech.begin(role, &config, pools, sizes)
    }
}

/// One end, and what its peer might send.
#[derive(Clone, Debug)]
struct Setup {
    speech: Speech,
    role: Role,
    /// What an honest peer sends until the handshake is over.
    handshake: Vec<u8>,
    stream: Vec<u8>,
}

fn setup() -> impl Strategy<Value = Setup> {
    (speech(), role(), says()).prop_flat_map(|(speech, role, says)| {
        let tested = session(speech, role, &Pools::default(), true);
        let Stream { bytes, handshake, .. } = Honest::stream(speech, tested, &says);
        let handshake = bytes[..handshake].to_vec();
        let stream = prop_oneof![3 => Just(bytes.clone()), 1 => tampered(bytes)];
        stream.prop_map(move |stream| Setup { speech, role, handshake: handshake.clone(), stream })
    })
}

/// A session, and what it has promised so far.
struct Watched {
    session: Session<Region>,
    pools: Pools,
    setup: Setup,
    /// How far the peer's bytes were read, and what the session took for them.
    read: usize,
    taken: Vec<u8>,
    now: Instant,
    error: Option<Error>,
    asked: usize,
    /// Whether the first binding was the peer's.
    bound: Option<bool>,
    established: bool,
    peer_finished: bool,
    finished: bool,
    closed: bool,
    chunk: bool,
    full: bool,
    done: bool,
    shutdown: bool,
}

impl Watched {
    fn new(setup: Setup) -> Self {
        let pools = Pools::default();
        Self {
            session: session(setup.speech, setup.role, &pools, false),
            pools,
            setup,
            read: 0,
            taken: Vec::new(),
            now: Instant::EPOCH,
            error: None,
            asked: 0,
            bound: None,
            established: false,
            peer_finished: false,
            finished: false,
            closed: false,
            chunk: false,
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
            Call::SendPart(chunk, remaining) => {
                let result = self.session.split().1.send_chunk(chunk, *remaining);
                self.sent(result);
            }
            Call::SendSpace(len, remaining) => {
                let wants_write = self.session.wants_write();
                let mut outbox = self.session.split().1;
                let result = outbox.send_space(*len, *remaining).map(|space| {
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
                self.chunk = false;
                assert_eq!(self.session.split().0, b"");
            }
            Call::Finish => {
                self.session.finish(self.now);
                self.finished = true;
            }
            Call::Abort(reason) => {
                self.session.abort(*reason, self.now);
                self.chunk = false;
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
            Call::Bind(right) => {
                let exporter = if *right { EXPORTER } else { [7; 32] };
                self.session.bind_channel(&exporter, self.now);
                if self.error.is_none() {
                    self.bound.get_or_insert(*right);
                }
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
                assert_ne!(error, Error::Transport);
                self.error = Some(error);
                self.chunk = false;
                return;
            }
        };
        assert!(!self.closed, "{event:?} after Closed");
        match event {
            Event::KeyNeeded => {
                self.asked += 1;
                let twice = match self.setup.speech {
                    Speech::None(_) | Speech::Challenge(..) => false,
                    Speech::Multiprocessing(..) => true,
                    Speech::Mutual(_) => self.setup.role == Role::Client,
                };
                assert!(self.asked <= 1 + usize::from(twice) && !self.established);
                assert!(self.session.key_request().is_some());
            }
            Event::Established => {
                assert!(!self.established);
                self.established = true;
                let Setup { speech, role, handshake, .. } = &self.setup;
                let peer = self.session.peer().unwrap();
                assert_eq!(peer.authenticated, speech.proves_to(*role));
                if speech.proves_to(*role) {
                    let right = speech.proves(*role, handshake, &self.taken);
                    assert!(right, "without the right answer");
                }
                assert!(!speech.is_bound() || self.bound == Some(true), "through the wrong TLS");
                assert_eq!(peer.session_id.is_some(), speech.is_mutual());
            }
            Event::Chunk { .. } => {
                assert!(self.established && !self.chunk && !self.peer_finished);
                self.chunk = true;
            }
            Event::Writable => {
                assert!(self.full, "room that nobody was promised");
                self.full = false;
            }
            Event::PeerFinished => {
                assert!(self.established && !self.chunk && !self.peer_finished);
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
        // Where no key is asked for, any will do.
        let asked = self.session.key_request().map(|request| (request.role, request.purpose));
        let (role, purpose) = asked.unwrap_or((self.setup.role, Purpose::Derivation));
        let key = |secret| Key::new(purpose, secret).unwrap();
        let (right, wrong) = (key(SECRET), key(ANOTHER_SECRET));
        let other = Key::challenge(Digest::Sha1, SECRET).unwrap();
        let answer = match answer {
            Answer::Right => Ok(Candidates::two(&right, &wrong)),
            Answer::RightSecond if role == Role::Server => Ok(Candidates::two(&wrong, &right)),
            Answer::RightSecond | Answer::Wrong => Ok(Candidates::one(&wrong)),
            Answer::OtherPurpose => Ok(Candidates::two(&right, &other)),
            Answer::KeyRejection => Err(KeyRejection::Unknown),
        };
        let result = self.session.provide_key(answer, self.now);
        match result {
            Ok(()) => assert!(asked.is_some()),
            Err(KeyError::NotAsked) => assert!(asked.is_none()),
            Err(KeyError::Purpose) => {
                assert!(asked.is_some() && self.session.key_request().is_some());
            }
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
        let n = n.min(space.len()).min(self.setup.stream.len() - self.read);
        space[..n].copy_from_slice(&self.setup.stream[self.read..][..n]);
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
        if self.setup.speech.is_bound() && self.bound.is_none() {
            assert!(!session.wants_read() && !session.wants_write(), "it spoke before its turn");
        }
        assert!(!session.wants_shutdown() || !session.wants_write());
        if self.done {
            assert!(!session.wants_read() && !session.wants_write());
            assert!(session.wants_shutdown() && !session.awaiting_buffer());
            assert_eq!(session.poll_timeout(), None);
        }
        if self.error.is_some() {
            assert!(!session.wants_read() && session.key_request().is_none());
            assert!(self.session.split().0.is_empty() && self.session.recv_space().is_empty());
        }
    }

    /// Ends it, has all that waits transmitted, and looks at what is left.
    fn end(mut self) {
        self.call(&Call::Abort(CloseReason::Application));
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
    #![proptest_config(config(2500))]

    #[test]
    fn calls_in_any_order_break_no_promise(setup in setup(), calls in vec(call(), 0..150)) {
        let mut watched = Watched::new(setup);
        for call in &calls {
            watched.call(call);
        }
        watched.end();
    }

    /// With calls at random few handshakes are ever over.
    #[test]
    fn calls_in_any_order_to_an_open_session_break_no_promise(
        setup in setup(),
        calls in vec(call(), 0..150),
    ) {
        let mut watched = Watched::new(setup);
        watched.call(&Call::Bind(true));
        let step = [
            Call::PollEvent,
            Call::PollTransmit,
            Call::Transmitted(usize::MAX),
            Call::Read(usize::MAX, 0),
            Call::PollEvent,
            Call::ProvideKey(Answer::Right),
            Call::PollEvent,
        ];
        // As many as the longest handshake takes.
        for _ in 0..9 {
            if !watched.established {
                step.iter().for_each(|call| watched.call(call));
            }
        }
        for call in &calls {
            watched.call(call);
        }
        watched.end();
    }
}
