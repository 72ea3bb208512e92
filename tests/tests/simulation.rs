//! Crowds of connections, honest and not, in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::time::Duration;

use countersign::{Alert, CloseReason, Digest, Error, Framing, Instant, Role, TimedOut, Truncated};
use countersign_driver::Failure;
use countersign_tests::python::PYTHONS;
use countersign_tests::sim::{Outcome, Rng, ServedConnection, Setup, World};
use countersign_tests::{Cover, FRAMINGS, Policy, Speech};

#[path = "simulation/tls.rs"]
mod tls;

/// How many seeds each test runs; `COUNTERSIGN_SEEDS` sets another number.
fn seeds() -> u64 {
    std::env::var("COUNTERSIGN_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(800)
}

/// Runs `check` on many seeds, and says which it was that failed.
fn for_all(make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, &Outcome)) {
    for_some(seeds(), make, check);
}

/// The same on so many.
fn for_some(seeds: u64, make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, &Outcome)) {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    let only = std::env::var("COUNTERSIGN_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(0..seeds, |seed: u64| seed..seed + 1) {
        let _named = Seed(seed);
        let setup = make(&mut Rng::new(seed ^ 0x5eed));
        check(&setup, &World::new(seed, setup.clone()).run());
    }
}

/// The latest at which a link falls silent where one does.
const FREEZE: Duration = Duration::from_secs(40);
/// Delays of the network, and what is rounded.
const MOMENT: Duration = Duration::from_millis(200);

fn setup(rng: &mut Rng) -> Setup {
    let (digest, framing) = (one_of(rng, Digest::ALL), one_of(rng, &FRAMINGS));
    let speech = match rng.within(0, 7) {
        0 => Speech::None(framing),
        1 | 2 => Speech::Challenge(digest, framing),
        3 | 4 => Speech::Multiprocessing(policy(rng), framing),
        _ => mutual(rng),
    };
    Setup {
        speech,
        inside: None,
        heartbeat: Duration::from_secs(if rng.one_in(2) { 0 } else { rng.within(1, 10) }),
        hold: Duration::ZERO,
        stay: Duration::ZERO,
        upper: rng.one_in(2),
        whole: rng.one_in(2),
        honest: rng.within(1, 8) as usize,
        strangers: 0,
        resets: false,
        freezes: None,
        stop_at: None,
        buffers: rng.within(1, 4) as usize,
        buffer_len: if !rng.one_in(2) {
            4096
        } else if speech.is_mutual() {
            rng.within(260, 400) as usize
        } else {
            rng.within(64, 200) as usize
        },
    }
}

fn one_of<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.within(0, all.len() as u64 - 1) as usize]
}

fn mutual(rng: &mut Rng) -> Speech {
    Speech::Mutual(one_of(rng, &Cover::ALL))
}

fn policy(rng: &mut Rng) -> Policy {
    let [(ours, _), (theirs, _)] = [one_of(rng, &PYTHONS), one_of(rng, &PYTHONS)];
    if rng.one_in(2) { Policy::Strict(ours) } else { Policy::Compatible(ours, theirs) }
}

/// Mutual ends that give signs of life.
fn alive(rng: &mut Rng) -> Setup {
    let speech = mutual(rng);
    let heartbeat = Duration::from_secs(rng.within(1, 10));
    Setup { speech, heartbeat, buffer_len: rng.within(260, 400) as usize, ..setup(rng) }
}

/// For how long a silent peer is borne with.
fn patience(setup: &Setup) -> Duration {
    2 * setup.heartbeat + Duration::from_secs(5)
}

fn answer(setup: &Setup, said: &[u8]) -> Vec<u8> {
    if setup.upper { said.to_ascii_uppercase() } else { said.to_vec() }
}

/// Such a client heard every answer, both ends closed in order, and each knows the other.
fn assert_served(setup: &Setup, served: &ServedConnection) {
    let ServedConnection { script, client, server } = served;
    assert_eq!(script.ended, Some(Ok(())));
    assert!(client.how.is_ok() && server.how.is_ok(), "{:?} {:?}", client.how, server.how);
    assert_eq!(script.heard, answer(setup, &script.said()));
    if setup.speech.framing() != Framing::Raw {
        assert_eq!(script.answers, script.count());
    }
    assert_know_each_other(setup, served);
}

fn assert_know_each_other(setup: &Setup, served: &ServedConnection) {
    let (Some(server), Some(client)) = (&served.client.met, &served.server.met) else {
        panic!("they never met");
    };
    let mutual = setup.speech.is_mutual();
    assert_eq!(server.session_id, client.session_id);
    assert_eq!(server.exporter, client.exporter);
    assert_eq!((&server.key_id, server.fingerprint), (&client.key_id, client.fingerprint));
    assert_eq!(server.session_id.is_some(), mutual);
    // Inside TLS, certificates say who it is.
    let inside = setup.inside.is_some();
    assert_eq!(server.authenticated, inside || setup.speech.proves_to(Role::Client));
    assert_eq!(client.authenticated, inside || setup.speech.proves_to(Role::Server));
    assert_eq!((server.name.is_some(), client.name.is_some()), (mutual, mutual));
}

fn assert_all_served(setup: &Setup, outcome: &Outcome) {
    assert_eq!(outcome.served.len(), setup.honest);
    outcome.served.iter().for_each(|served| assert_served(setup, served));
    assert_eq!(outcome.leased, 0);
}

#[test]
fn every_honest_client_of_a_crowd_is_served_though_buffers_are_few() {
    for_all(setup, all_are_served);
}

fn all_are_served(setup: &Setup, outcome: &Outcome) {
    assert_all_served(setup, outcome);
    let ids = |served: &ServedConnection| served.client.met.as_ref().and_then(|met| met.session_id);
    let ids: HashSet<_> = outcome.served.iter().filter_map(ids).collect();
    let expected = if setup.speech.is_mutual() { setup.honest } else { 0 };
    assert_eq!(ids.len(), expected, "sessions of one id");
}

#[test]
fn strangers_are_out_by_the_deadline_and_harm_nobody() {
    for_all(with_strangers, strangers_are_out);
}

fn with_strangers(rng: &mut Rng) -> Setup {
    let challenge = Speech::Challenge(Digest::Sha256, Framing::U32);
    let speech = match rng.within(0, 2) {
        0 => challenge,
        1 => Speech::Multiprocessing(policy(rng), Framing::Multiprocessing),
        _ => mutual(rng),
    };
    let strangers = rng.within(1, 8) as usize;
    Setup { speech, strangers, buffer_len: rng.within(260, 600) as usize, ..setup(rng) }
}

fn strangers_are_out(setup: &Setup, outcome: &Outcome) {
    // Whoever has messages in its handshake reads them, and has a last word.
    let framed = !matches!(setup.speech, Speech::Challenge(..));
    assert_all_served(setup, outcome);
    assert_eq!(outcome.strangers.len(), setup.strangers);
    for ended in &outcome.strangers {
        assert_eq!(ended.met, None, "a stranger was let in");
        let Err(Failure::Protocol(error)) = ended.how else { panic!("{:?}", ended.how) };
        let late = matches!(error, Error::TimedOut(TimedOut::Handshake));
        let expected = late
            || match error {
                Error::WrongKey | Error::Truncated(Truncated::Handshake) => true,
                Error::Malformed | Error::Incompatible => framed,
                Error::Channel(_) => setup.inside.is_some(),
                _ => false,
            };
        assert!(expected, "{error:?}");
        // The deadline, a second for the last word to leave and one for the peer's, and a
        // moment for it to arrive.
        let has_last_word = framed || setup.inside.is_some();
        let deadline = Duration::from_secs(if has_last_word { 7 } else { 6 });
        assert!(ended.at <= Instant::EPOCH.saturating_add(deadline + MOMENT), "{ended:?}");
    }
}

#[test]
fn a_broken_link_breaks_only_its_own_connection() {
    for_all(with_resets, the_others_are_served);
}

fn with_resets(rng: &mut Rng) -> Setup {
    Setup { resets: true, ..setup(rng) }
}

fn the_others_are_served(setup: &Setup, outcome: &Outcome) {
    outcome.served.iter().for_each(|served| assert_served(setup, served));
    for ServedConnection { script, .. } in &outcome.reset {
        // What came before the link broke is right.
        assert!(answer(setup, &script.said()).starts_with(&script.heard));
    }
    assert_eq!(outcome.served.len() + outcome.reset.len(), setup.honest);
    assert_eq!(outcome.leased, 0);
}

#[test]
fn an_orderly_stop_ends_soon_and_cuts_no_answer_short() {
    for_all(stopping, no_answer_is_cut_short);
}

fn stopping(rng: &mut Rng) -> Setup {
    Setup { stop_at: Some(Instant::from_micros(rng.within(0, 300_000))), ..setup(rng) }
}

fn no_answer_is_cut_short(setup: &Setup, outcome: &Outcome) {
    for ServedConnection { script, server, .. } in &outcome.served {
        assert!(answer(setup, &script.said()).starts_with(&script.heard));
        // Nobody sees half a message, nor an error but that of being turned away.
        let turned_away = match script.ended {
            Some(
                Ok(())
                | Err(
                    Error::Truncated(Truncated::Handshake)
                    | Error::Alert(Alert::Busy)
                    | Error::PeerClosed(CloseReason::Shutdown)
                    | Error::TimedOut(TimedOut::Send)
                    | Error::Aborted(CloseReason::Shutdown),
                ),
            ) => true,
            // In TLS 1.3 a client is let in before the server has heard its certificate: it sees an end
            // without close_notify, and so does it only if that was when the server gave it up.
            Some(Err(Error::Truncated(Truncated::Stream))) => {
                setup.inside.is_some() && server.met.is_none()
            }
            _ => false,
        };
        assert!(turned_away, "{:?} {server:?}", script.ended);
    }
    assert_eq!(outcome.leased, 0);
}

#[test]
fn who_has_nothing_to_say_is_not_given_up_while_it_gives_signs_of_life() {
    let staying = |rng: &mut Rng| Setup { stay: Duration::from_secs(90), ..alive(rng) };
    for_all(staying, |setup, outcome| {
        assert_all_served(setup, outcome);
        assert!(outcome.at > Instant::EPOCH.saturating_add(Duration::from_secs(45)));
    });
}

#[test]
fn a_peer_behind_a_slow_application_is_not_given_up() {
    for_all(slow, assert_all_served);
}

fn slow(rng: &mut Rng) -> Setup {
    Setup {
        heartbeat: Duration::from_secs(1),
        // Longer than a silent peer is borne with; both ends together, and a slow network, take
        // less than a stall.
        hold: Duration::from_secs(10),
        // What is held keeps its buffer.
        buffers: 8,
        ..alive(rng)
    }
}

#[test]
fn a_peer_that_falls_silent_is_given_up_after_two_heartbeats_and_five_seconds() {
    for_all(silent, the_silent_are_given_up);
}

fn silent(rng: &mut Rng) -> Setup {
    Setup {
        // All is said long before.
        stay: Duration::from_secs(1000),
        freezes: Some(Instant::EPOCH.saturating_add(FREEZE)),
        // Time in which one waits for a buffer is not the peer's.
        buffers: 8,
        ..alive(rng)
    }
}

fn the_silent_are_given_up(setup: &Setup, outcome: &Outcome) {
    assert_eq!(outcome.frozen.len(), setup.honest);
    for (served, at) in &outcome.frozen {
        assert_know_each_other(setup, served);
        assert_eq!(served.script.heard, answer(setup, &served.script.said()));
        assert_eq!(served.script.ended, Some(Err(Error::TimedOut(TimedOut::Peer))));
        for end in [&served.client, &served.server] {
            let silent = Err(Failure::Protocol(Error::TimedOut(TimedOut::Peer)));
            assert_eq!(end.how, silent);
            let failed_at = end.failed_at.unwrap();
            // It was last heard at most a heartbeat before, and not after.
            assert!(failed_at <= at.saturating_add(patience(setup)), "{end:?} {at:?}");
            let least = patience(setup).saturating_sub(setup.heartbeat + MOMENT);
            assert!(failed_at >= at.saturating_add(least), "{end:?} {at:?}");
        }
    }
    assert_eq!(outcome.leased, 0);
}

#[test]
fn a_link_that_falls_silent_in_the_middle_of_anything_is_given_up() {
    let silent = |rng: &mut Rng| Setup {
        freezes: Some(Instant::from_micros(rng.within(1, 400_000))),
        resets: rng.one_in(4),
        ..alive(rng)
    };
    for_all(silent, |setup, outcome| {
        outcome.served.iter().for_each(|served| assert_served(setup, served));
        for (served, at) in &outcome.frozen {
            assert!(answer(setup, &served.script.said()).starts_with(&served.script.heard));
            for end in [&served.client, &served.server] {
                // A stall is borne with for 30 s, and time in which we do not read, or wait for a
                // buffer that another stalled peer holds, is not the peer's.
                let turns = setup.honest.div_ceil(setup.buffers) as u32;
                let latest = at.saturating_add(Duration::from_secs(30) * turns + patience(setup));
                let failed_at = end.failed_at.unwrap_or(*at);
                assert!(failed_at <= latest.saturating_add(MOMENT), "{end:?} {at:?}");
            }
        }
        assert_eq!(outcome.leased, 0);
    });
}
