//! The duration of a refusal is independent of its reason.
//!
//! The method is that of dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?"):
//! one operation on inputs of two classes in random order; the slowest tenth of the measurements,
//! which are interruptions, is discarded; Welch's t-test compares the rest. docs/TESTING.md states
//! the threshold and the reason for it.
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
    ANOTHER_SECRET, Action, FrameProtection, HonestPeer, PeerStream, Policy, Pools, SECRET,
    SessionSpec,
};

const NOW: Instant = Instant::EPOCH;
const MUTUAL: SessionSpec = SessionSpec::Mutual(FrameProtection::Tags);
const MULTIPROCESSING: SessionSpec =
    SessionSpec::Multiprocessing(Policy::Strict(Digest::Sha256), Framing::Multiprocessing);

/// The classes differ if t exceeds this in every round.
const THRESHOLD: f64 = 10.0;
/// Number of rounds, all of which must agree.
const ROUNDS: usize = 4;
/// Measurements per round, of both classes together: enough to detect a comparison that stops
/// early, about 20 ns.
const COMPARISON: usize = 16_000;
/// Enough to detect a missing key derivation, and too few to detect which of two branches returned.
const DERIVATION: usize = 3_000;
/// How often a known leak may go unnoticed, with twice as many measurements each time: the computer
/// may be busy.
const ATTEMPTS: u32 = 4;

/// Returns Welch's t of two samples.
fn welch(samples: &[Vec<f64>; 2]) -> f64 {
    let [a, b] = samples.each_ref().map(|sample| {
        let n = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / n;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt().max(f64::MIN_POSITIVE)
}

/// Runs one round. Returns t of the durations that `measure` reports for each class.
fn round(rng: &mut Rng, count: usize, measure: &mut dyn FnMut(bool) -> Duration) -> f64 {
    let all: Vec<_> = (0..count)
        .map(|_| {
            let class = rng.one_in(2);
            (class, measure(class).as_nanos() as f64)
        })
        // The first measurements run with cold caches.
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

/// Whether the classes differ in every round, in the same direction.
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

/// A measured operation on an input of the given class, followed by the given function.
type Measure<'a> = &'a mut dyn FnMut(bool, &mut dyn FnMut()) -> Duration;

/// Asserts that `measure` does not distinguish the classes, and that it does once `leak` is part of
/// what is measured.
fn assert_constant(what: &str, count: usize, measure: Measure<'_>, leak: &mut dyn FnMut(bool)) {
    let distinguished = leaks(what, count, &mut |class| measure(class, &mut || {}));
    assert!(!distinguished, "{what}: the duration distinguishes the classes");
    let what = format!("{what}, leaky");
    let detected = (0..ATTEMPTS).any(|attempt| {
        leaks(&what, count << attempt, &mut |class| measure(class, &mut || leak(class)))
    });
    assert!(detected, "{what}: the known leak was not detected");
}

/// Compares in variable time: stops at the first byte that differs.
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

/// Returns two slices of `len` bytes that differ in the first or the last.
fn differing(len: usize, last: bool) -> (Vec<u8>, Vec<u8>) {
    let right = vec![7; len];
    let wrong = differing_in(&right, if last { len - 1 } else { 0 });
    (right, wrong)
}

/// Returns `bytes` with the byte at `at` changed.
fn differing_in(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// Buffers shared by all measurements, so that memory addresses are always the same.
struct Memory {
    handshake: [u8; 1024],
    receive: [u8; 300],
    send: [u8; 128],
}

impl Memory {
    fn buffers(&mut self) -> Buffers<&mut [u8]> {
        Buffers { handshake: &mut self.handshake, receive: &mut self.receive, send: &mut self.send }
    }
}

/// A server, and what an honest client sends to it: the frame with its proof, and a message.
struct Bench {
    config: Config,
    right: Key,
    wrong: Key,
    memory: RefCell<Memory>,
    proof: Vec<u8>,
    message: Vec<u8>,
}

impl Bench {
    fn new(spec: SessionSpec) -> Self {
        let config = spec.config(Role::Server, HonestPeer::HEARTBEAT);
        let memory = Memory { handshake: [0; 1024], receive: [0; 300], send: [0; 128] };
        let sizes = (memory.receive.len(), memory.send.len());
        let tested = spec.session(Role::Server, &config, &Pools::default(), sizes);
        let actions = [Action::Message(b"a message of thirty-two bytes...".to_vec())];
        let PeerStream { bytes, handshake, .. } = HonestPeer::stream(spec, tested, &actions);
        let (handshake, message) = bytes.split_at(handshake);
        let n = u32::from_be_bytes(handshake[..4].try_into().unwrap());
        let proof = handshake[..4 + n as usize].to_vec();
        let [right, wrong] =
            [SECRET, ANOTHER_SECRET].map(|secret| spec.keys(secret).unwrap()[0].clone());
        Self { config, right, wrong, memory: memory.into(), proof, message: message.to_vec() }
    }

    /// Lets a new server receive `proof` until it requests the key, then calls `then`.
    fn at_key_request<T>(
        &self,
        proof: &[u8],
        then: impl FnOnce(&mut Session<&mut [u8]>) -> T,
    ) -> T {
        let mut memory = self.memory.borrow_mut();
        let nonce = Nonce::from_bytes(SessionSpec::nonce(Role::Server));
        let mut session = Session::server(&self.config, nonce, memory.buffers(), NOW).unwrap();
        transmit(&mut session);
        receive(&mut session, &proof[..4]);
        assert_eq!(session.poll_event(NOW), Ok(None));
        receive(&mut session, &proof[4..]);
        assert_eq!(session.poll_event(NOW), Ok(Some(Event::KeyNeeded)));
        then(&mut session)
    }

    /// Returns how long the refusal of `proof` takes.
    fn refuse(
        &self,
        proof: &[u8],
        answer: Result<&Key, KeyRejection>,
        leak: &mut dyn FnMut(),
    ) -> Duration {
        self.at_key_request(proof, |session| {
            let start = Clock::now();
            session.provide_key(answer.map(Candidates::one), NOW).unwrap();
            let error = session.poll_event(NOW);
            leak();
            let took = start.elapsed();
            assert!(error.is_err());
            took
        })
    }

    /// Returns how long the refusal of `frame` takes after the handshake.
    fn refuse_frame(&self, frame: &[u8], leak: &mut dyn FnMut()) -> Duration {
        self.at_key_request(&self.proof, |session| {
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

/// One test for all classes: concurrent measurements would disturb each other.
#[test]
fn time_of_a_refusal_is_independent_of_its_reason() {
    for (what, spec) in [
        ("first and last byte of a proof", MUTUAL),
        ("first and last byte of a response", MULTIPROCESSING),
    ] {
        let bench = Bench::new(spec);
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
        // One of the several derivations, only for keys that exist.
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
