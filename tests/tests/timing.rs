//! What a stranger could learn from how long a refusal takes: nothing.
//!
//! In the manner of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?"): one
//! operation on inputs of two classes, in random order; the slowest tenth of the measurements, which
//! are interruptions, left out; Welch's t-test on the rest. docs/TESTING.md has the threshold and the
//! reason for it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use countersign::{
    Buffers, Candidates, Config, Digest, Error, Event, FrameError, Framing, Instant, Key,
    KeyRejection, Mac, Nonce, Protocol, Role, Session,
};
use countersign_tests::sim::Rng;
use countersign_tests::{
    ANOTHER_SECRET, Cover, Honest, Policy, Pools, SECRET, Say, Speech, Stream,
};

const NOW: Instant = Instant::EPOCH;
const MUTUAL: Speech = Speech::Mutual(Cover::Tags);
const MULTIPROCESSING: Speech =
    Speech::Multiprocessing(Policy::Strict(Digest::Sha256), Framing::Multiprocessing);

/// Beyond this in every round, the classes differ.
const THRESHOLD: f64 = 10.0;
/// Rounds, each of which has to say so.
const ROUNDS: usize = 4;
/// Measurements in a round, of both classes together: enough to see that a comparison stops early,
/// some 20 ns.
const COMPARISON: usize = 16_000;
/// Enough to see that one derivation is left out, and too few to see which of two branches returned.
const DERIVATION: usize = 3_000;
/// How often what is known to leak may fail to be noticed, with twice as many measurements each
/// time: the machine may be busy.
const ATTEMPTS: u32 = 4;

/// Welch's t of two samples.
fn welch(samples: &[Vec<f64>; 2]) -> f64 {
    let [a, b] = samples.each_ref().map(|sample| {
        let n = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / n;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt().max(f64::MIN_POSITIVE)
}

/// One round: t of how long `measure` says that each class takes.
fn round(rng: &mut Rng, count: usize, measure: &mut dyn FnMut(bool) -> Duration) -> f64 {
    let all: Vec<_> = (0..count)
        .map(|_| {
            let class = rng.one_in(2);
            (class, measure(class).as_nanos() as f64)
        })
        // What comes first finds cold caches.
        .skip(count / 10)
        .collect();
    let mut times: Vec<_> = all.iter().map(|(_, time)| *time).collect();
    times.sort_by(f64::total_cmp);
    let slow = times[times.len() * 9 / 10];
    let of = |class| {
        let kept = all.iter().filter(|(c, time)| *c == class && *time <= slow);
        kept.map(|(_, time)| *time).collect()
    };
    welch(&[of(false), of(true)])
}

/// Whether every round says that the classes differ, and in the same direction.
fn leaks(what: &str, count: usize, measure: &mut dyn FnMut(bool) -> Duration) -> bool {
    let mut rng = Rng::new(count as u64);
    let mut first = None;
    for _ in 0..ROUNDS {
        let t = round(&mut rng, count, measure);
        println!("{what}: t = {t:.1}");
        if t.abs() <= THRESHOLD || *first.get_or_insert(t.signum()) != t.signum() {
            return false;
        }
    }
    true
}

/// What is measured: one operation on an input of that class, followed by what it is given.
type Measure<'a> = &'a mut dyn FnMut(bool, &mut dyn FnMut()) -> Duration;

/// Asserts that `measure` does not tell the classes apart, and that it does with `leak` in what is
/// timed.
fn assert_constant(what: &str, count: usize, measure: Measure<'_>, leak: &mut dyn FnMut(bool)) {
    let told = leaks(what, count, &mut |class| measure(class, &mut || {}));
    assert!(!told, "{what}: how long it takes tells the one from the other");
    let what = format!("{what}, leaky");
    let noticed = (0..ATTEMPTS).any(|attempt| {
        leaks(&what, count << attempt, &mut |class| measure(class, &mut || leak(class)))
    });
    assert!(noticed, "{what}: what leaks is not noticed, so the test says nothing");
}

/// Compares as nobody should: up to the first byte that differs.
#[inline(never)]
fn variable_time_eq(a: &[u8], b: &[u8]) -> bool {
    for (a, b) in a.iter().zip(b) {
        if black_box(*a) != black_box(*b) {
            return false;
        }
    }
    true
}

fn leaky_compare((right, wrong): &(Vec<u8>, Vec<u8>)) {
    assert!(!variable_time_eq(black_box(right), black_box(wrong)));
}

/// Two of `len` bytes that differ in the first, or in the last.
fn differing(len: usize, last: bool) -> (Vec<u8>, Vec<u8>) {
    let right = vec![7; len];
    let wrong = differing_in(&right, if last { len - 1 } else { 0 });
    (right, wrong)
}

/// `bytes` but for that one.
fn differing_in(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Buffers that are used again and again, so that memory is the same for every measurement.
struct Room {
    handshake: [u8; 1024],
    receive: [u8; 300],
    send: [u8; 128],
}

impl Room {
    fn buffers(&mut self) -> Buffers<&mut [u8]> {
        Buffers { handshake: &mut self.handshake, receive: &mut self.receive, send: &mut self.send }
    }
}

/// A server, and what an honest client sends it: the frame with its proof, and a message.
struct Bench {
    config: Config,
    right: Key,
    wrong: Key,
    room: RefCell<Room>,
    proof: Vec<u8>,
    message: Vec<u8>,
}

impl Bench {
    fn new(speech: Speech) -> Self {
        let config = speech.config(Role::Server, Honest::HEARTBEAT);
        let room = Room { handshake: [0; 1024], receive: [0; 300], send: [0; 128] };
        let sizes = (room.receive.len(), room.send.len());
        let tested = speech.end(Role::Server, &config, &Pools::default(), sizes);
        let says = [Say::Message(b"a message of thirty-two bytes...".to_vec())];
        let Stream { bytes, handshake, .. } = Honest::stream(speech, tested, &says);
        let (handshake, message) = bytes.split_at(handshake);
        let n = u32::from_be_bytes(handshake[..4].try_into().unwrap());
        let proof = handshake[..4 + n as usize].to_vec();
        let [right, wrong] =
            [SECRET, ANOTHER_SECRET].map(|secret| speech.ring(secret).unwrap()[0].clone());
        Self { config, right, wrong, room: room.into(), proof, message: message.to_vec() }
    }

    /// Has a new server hear `proof` and asked for the key; then `then`.
    fn asked<T>(&self, proof: &[u8], then: impl FnOnce(&mut Session<&mut [u8]>) -> T) -> T {
        let mut room = self.room.borrow_mut();
        let nonce = Nonce::from_bytes(Speech::nonce(Role::Server));
        let mut session = Session::server(&self.config, nonce, room.buffers(), NOW).unwrap();
        transmit(&mut session);
        receive(&mut session, &proof[..4]);
        assert_eq!(session.poll_event(NOW), Ok(None));
        receive(&mut session, &proof[4..]);
        assert_eq!(session.poll_event(NOW), Ok(Some(Event::KeyNeeded)));
        then(&mut session)
    }

    /// How long a refusal of `proof` takes.
    fn refuse(
        &self,
        proof: &[u8],
        answer: Result<&Key, KeyRejection>,
        leak: &mut dyn FnMut(),
    ) -> Duration {
        self.asked(proof, |session| {
            let start = Clock::now();
            session.provide_key(answer.map(Candidates::one), NOW).unwrap();
            let error = session.poll_event(NOW);
            leak();
            let took = start.elapsed();
            assert!(error.is_err());
            took
        })
    }

    /// How long the refusal of `frame` in an open session takes.
    fn refuse_frame(&self, frame: &[u8], leak: &mut dyn FnMut()) -> Duration {
        self.asked(&self.proof, |session| {
            session.provide_key(Ok(Candidates::one(&self.right)), NOW).unwrap();
            transmit(session);
            assert_eq!(session.poll_event(NOW), Ok(Some(Event::Established)));
            receive(session, frame);
            let start = Clock::now();
            let error = session.poll_event(NOW);
            leak();
            let took = start.elapsed();
            assert_eq!(error, Err(Error::Frame(FrameError::Tag)));
            took
        })
    }
}

fn transmit(session: &mut Session<&mut [u8]>) {
    let n = session.poll_transmit(NOW).len();
    session.handle_transmitted(n, NOW);
}

fn receive(session: &mut Session<&mut [u8]>, bytes: &[u8]) {
    session.recv_space()[..bytes.len()].copy_from_slice(bytes);
    session.handle_received(bytes.len(), NOW);
}

/// All in one test: measurements at the same time would disturb each other.
#[test]
fn how_long_a_refusal_takes_says_nothing_of_why() {
    for (what, speech) in [
        ("first and last byte of a proof", MUTUAL),
        ("first and last byte of a response", MULTIPROCESSING),
    ] {
        let bench = Bench::new(speech);
        let len = bench.proof.len();
        let proofs = [len - 32, len - 1].map(|at| differing_in(&bench.proof, at));
        let tags = [differing(32, false), differing(32, true)];
        assert_constant(
            what,
            COMPARISON,
            &mut |last, leak| bench.refuse(&proofs[usize::from(last)], Ok(&bench.right), leak),
            &mut |last| leaky_compare(&tags[usize::from(last)]),
        );
    }

    let bench = Bench::new(MUTUAL);
    let mac = Mac::new(Digest::Sha256, SECRET);
    assert_constant(
        "known and unknown key id",
        DERIVATION,
        &mut |known, leak| {
            let answer = if known { Ok(&bench.wrong) } else { Err(KeyRejection::Unknown) };
            bench.refuse(&bench.proof, answer, leak)
        },
        // One derivation of many, for keys that are there.
        &mut |known| {
            if known {
                black_box(mac.tag(black_box(b"import")));
            }
        },
    );

    let len = bench.message.len();
    let frames = [len - 16, len - 1].map(|at| differing_in(&bench.message, at));
    let tags = [differing(16, false), differing(16, true)];
    assert_constant(
        "first and last byte of a tag",
        COMPARISON,
        &mut |last, leak| bench.refuse_frame(&frames[usize::from(last)], leak),
        &mut |last| leaky_compare(&tags[usize::from(last)]),
    );
}
