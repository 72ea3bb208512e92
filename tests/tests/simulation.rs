//! Crowds of connections, honest and not, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::time::Duration;

use countersign::{Digest, Error, Framing, Instant, Reason, Scheme, TimedOut};
use countersign_drive::Failure;
use countersign_tests::sim::{Outcome, Rng, Script, Setup, World};

/// How many seeds each test runs; `COUNTERSIGN_SEEDS` sets another number.
fn seeds() -> u64 {
    std::env::var("COUNTERSIGN_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300)
}

/// Runs `check` on many seeds, and says which it was that failed.
fn for_all(make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, Outcome)) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    let only = std::env::var("COUNTERSIGN_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..seeds(), |seed: u64| seed..seed + 1) {
        let _named = Seed(seed);
        let setup = make(&mut Rng::new(seed ^ 0x5eed));
        check(&setup, World::new(seed, setup.clone()).run());
    }
}

fn setup(rng: &mut Rng) -> Setup {
    let digest = Digest::ALL[rng.within(0, Digest::ALL.len() as u64 - 1) as usize];
    Setup {
        scheme: if rng.one_in(3) { Scheme::None } else { Scheme::Challenge { digest } },
        framing: if rng.one_in(2) { Framing::Raw } else { Framing::U32 },
        upper: rng.one_in(2),
        honest: rng.within(1, 8) as usize,
        strangers: 0,
        resets: false,
        stop_at: None,
        buffers: rng.within(1, 4) as usize,
        buffer_len: if rng.one_in(2) { rng.within(64, 200) } else { 4096 } as usize,
    }
}

fn answer(setup: &Setup, said: &[u8]) -> Vec<u8> {
    if setup.upper { said.to_ascii_uppercase() } else { said.to_vec() }
}

fn assert_served(setup: &Setup, script: &Script) {
    assert_eq!(script.ended, Some(Ok(())));
    assert_eq!(script.heard, answer(setup, &script.said()));
    if setup.framing == Framing::U32 {
        assert_eq!(script.answers, script.count());
    }
}

#[test]
fn every_honest_client_of_a_crowd_is_served_though_buffers_are_few() {
    for_all(setup, |setup, outcome| {
        assert_eq!(outcome.served.len(), setup.honest);
        outcome.served.iter().for_each(|script| assert_served(setup, script));
        assert_eq!(outcome.leased, 0);
    });
}

#[test]
fn strangers_are_out_by_the_deadline_and_harm_nobody() {
    let with_strangers = |rng: &mut Rng| Setup {
        scheme: Scheme::Challenge { digest: Digest::Sha256 },
        strangers: rng.within(1, 8) as usize,
        ..setup(rng)
    };
    for_all(with_strangers, |setup, outcome| {
        outcome.served.iter().for_each(|script| assert_served(setup, script));
        assert_eq!(outcome.strangers.len(), setup.strangers);
        for (how, established, at) in &outcome.strangers {
            assert!(!established, "a stranger was let in");
            let Err(Failure::Protocol(error)) = how else { panic!("ended with {how:?}") };
            assert!(
                matches!(
                    error,
                    Error::WrongKey | Error::Truncated(_) | Error::TimedOut(TimedOut::Handshake)
                ),
                "{error:?}"
            );
            // The deadline, and a moment for the last word to arrive.
            assert!(*at <= Instant::EPOCH.saturating_add(Duration::from_millis(6_050)), "{at:?}");
        }
        assert_eq!(outcome.leased, 0);
    });
}

#[test]
fn a_broken_link_breaks_only_its_own_connection() {
    let with_resets = |rng: &mut Rng| Setup { resets: true, ..setup(rng) };
    for_all(with_resets, |setup, outcome| {
        outcome.served.iter().for_each(|script| assert_served(setup, script));
        for script in &outcome.reset {
            // What came before the link broke is right.
            assert!(answer(setup, &script.said()).starts_with(&script.heard));
        }
        assert_eq!(outcome.served.len() + outcome.reset.len(), setup.honest);
        assert_eq!(outcome.leased, 0);
    });
}

#[test]
fn an_orderly_stop_ends_soon_and_cuts_no_answer_short() {
    let stopping = |rng: &mut Rng| Setup {
        stop_at: Some(Instant::from_micros(rng.within(0, 300_000))),
        ..setup(rng)
    };
    for_all(stopping, |setup, outcome| {
        for script in &outcome.served {
            assert!(answer(setup, &script.said()).starts_with(&script.heard));
            // Nobody sees half a message, nor an error but that of being turned away.
            assert!(
                matches!(
                    script.ended,
                    Some(
                        Ok(())
                            | Err(Error::Truncated(countersign::Truncated::Handshake)
                                | Error::TimedOut(TimedOut::Send)
                                | Error::Aborted(Reason::Shutdown))
                    )
                ),
                "{:?}",
                script.ended
            );
        }
        assert_eq!(outcome.leased, 0);
    });
}
