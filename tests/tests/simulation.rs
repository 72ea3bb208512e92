//! Simulations of many honest and hostile connections in virtual time.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::HashSet;
use std::time::Duration;

use countersign::{Alert, CloseReason, Digest, Error, Framing, Instant, Role, TimedOut, Truncated};
use countersign_driver::Failure;
use countersign_tests::python::PYTHON_DIGESTS;
use countersign_tests::sim::{Outcome, Rng, ServedConnection, Setup, Simulation};
use countersign_tests::{FRAMINGS, FrameProtection, Policy, SessionSpec};

#[path = "simulation/tls.rs"]
mod tls;

/// Returns the number of seeds that each test runs: that in `COUNTERSIGN_SEEDS`, or a default.
fn seed_count() -> u64 {
    std::env::var("COUNTERSIGN_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(800)
}

/// Runs `check` on the outcome of every seed.
fn for_all_seeds(make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, &Outcome)) {
    for_seeds(seed_count(), make, check);
}

/// Runs `check` on the outcomes of `seeds` seeds, or of the seed in `COUNTERSIGN_SEED` alone.
/// Prints the seed that fails.
fn for_seeds(seeds: u64, make: impl Fn(&mut Rng) -> Setup, check: impl Fn(&Setup, &Outcome)) {
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
        let _printed_on_panic = Seed(seed);
        let setup = make(&mut Rng::new(seed ^ 0x5eed));
        check(&setup, &Simulation::new(seed, setup.clone()).run());
    }
}

/// The latest time at which a link freezes in [`with_frozen_links`].
const FREEZE: Duration = Duration::from_secs(40);
/// Tolerance for network delays and rounding.
const SLACK: Duration = Duration::from_millis(200);

fn setup(rng: &mut Rng) -> Setup {
    let (digest, framing) = (choose(rng, Digest::ALL), choose(rng, &FRAMINGS));
    let spec = match rng.within(0, 7) {
        0 => SessionSpec::None(framing),
        1 | 2 => SessionSpec::Challenge(digest, framing),
        3 | 4 => SessionSpec::Multiprocessing(policy(rng), framing),
        _ => mutual(rng),
    };
    Setup {
        spec,
        wrap: None,
        heartbeat: Duration::from_secs(if rng.one_in(2) { 0 } else { rng.within(1, 10) }),
        hold: Duration::ZERO,
        linger: Duration::ZERO,
        upper: rng.one_in(2),
        whole_messages: rng.one_in(2),
        honest: rng.within(1, 8) as usize,
        hostile: 0,
        resets: false,
        freeze_by: None,
        stop_at: None,
        buffers: rng.within(1, 4) as usize,
        buffer_len: if !rng.one_in(2) {
            4096
        } else if spec.is_mutual() {
            rng.within(260, 400) as usize
        } else {
            rng.within(64, 200) as usize
        },
    }
}

fn choose<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.within(0, all.len() as u64 - 1) as usize]
}

fn mutual(rng: &mut Rng) -> SessionSpec {
    SessionSpec::Mutual(choose(rng, &FrameProtection::ALL))
}

fn policy(rng: &mut Rng) -> Policy {
    let [(ours, _), (theirs, _)] = [choose(rng, &PYTHON_DIGESTS), choose(rng, &PYTHON_DIGESTS)];
    if rng.one_in(2) { Policy::Strict(ours) } else { Policy::Compatible(ours, theirs) }
}

/// Sessions of `mutual` with heartbeats.
fn with_heartbeats(rng: &mut Rng) -> Setup {
    let spec = mutual(rng);
    let heartbeat = Duration::from_secs(rng.within(1, 10));
    Setup { spec, heartbeat, buffer_len: rng.within(260, 400) as usize, ..setup(rng) }
}

/// Returns the time after which a silent peer times out.
fn peer_timeout(setup: &Setup) -> Duration {
    2 * setup.heartbeat + Duration::from_secs(5)
}

fn expected_reply(setup: &Setup, sent: &[u8]) -> Vec<u8> {
    if setup.upper { sent.to_ascii_uppercase() } else { sent.to_vec() }
}

/// Asserts that the client received every reply, that both endpoints closed in order, and that they
/// agree on each other.
fn assert_served(setup: &Setup, served: &ServedConnection) {
    let ServedConnection { service, client, server } = served;
    assert_eq!(service.closed, Some(Ok(())));
    assert!(
        client.result.is_ok() && server.result.is_ok(),
        "{:?} {:?}",
        client.result,
        server.result
    );
    assert_eq!(service.received, expected_reply(setup, &service.sent()));
    if setup.spec.framing() != Framing::Raw {
        assert_eq!(service.replies, service.count());
    }
    assert_peers_agree(setup, served);
}

fn assert_peers_agree(setup: &Setup, served: &ServedConnection) {
    let (Some(server), Some(client)) = (&served.client.peer, &served.server.peer) else {
        panic!("the handshake did not complete");
    };
    let mutual = setup.spec.is_mutual();
    assert_eq!(server.session_id, client.session_id);
    assert_eq!(server.exporter, client.exporter);
    assert_eq!((&server.key_id, server.fingerprint), (&client.key_id, client.fingerprint));
    assert_eq!(server.session_id.is_some(), mutual);
    // Inside TLS, certificates authenticate both endpoints.
    let in_tls = setup.wrap.is_some();
    assert_eq!(server.authenticated, in_tls || setup.spec.authenticates_peer(Role::Client));
    assert_eq!(client.authenticated, in_tls || setup.spec.authenticates_peer(Role::Server));
    assert_eq!((server.name.is_some(), client.name.is_some()), (mutual, mutual));
}

fn assert_all_served(setup: &Setup, outcome: &Outcome) {
    assert_eq!(outcome.served.len(), setup.honest);
    outcome.served.iter().for_each(|served| assert_served(setup, served));
    assert_eq!(outcome.leased, 0);
}

#[test]
fn honest_clients_are_served_despite_few_buffers() {
    for_all_seeds(setup, check_all_served);
}

fn check_all_served(setup: &Setup, outcome: &Outcome) {
    assert_all_served(setup, outcome);
    let ids =
        |served: &ServedConnection| served.client.peer.as_ref().and_then(|peer| peer.session_id);
    let ids: HashSet<_> = outcome.served.iter().filter_map(ids).collect();
    let expected = if setup.spec.is_mutual() { setup.honest } else { 0 };
    assert_eq!(ids.len(), expected, "two sessions have one id");
}

#[test]
fn hostile_clients_end_by_the_deadline_and_disturb_no_other() {
    for_all_seeds(with_hostile_clients, check_hostile_clients_ended);
}

fn with_hostile_clients(rng: &mut Rng) -> Setup {
    let challenge = SessionSpec::Challenge(Digest::Sha256, Framing::U32);
    let spec = match rng.within(0, 2) {
        0 => challenge,
        1 => SessionSpec::Multiprocessing(policy(rng), Framing::Multiprocessing),
        _ => mutual(rng),
    };
    let hostile = rng.within(1, 8) as usize;
    Setup { spec, hostile, buffer_len: rng.within(260, 600) as usize, ..setup(rng) }
}

fn check_hostile_clients_ended(setup: &Setup, outcome: &Outcome) {
    // These schemes have messages in the handshake, and an alert for its failure.
    let framed = !matches!(setup.spec, SessionSpec::Challenge(..));
    assert_all_served(setup, outcome);
    assert_eq!(outcome.hostile.len(), setup.hostile);
    for end in &outcome.hostile {
        assert_eq!(end.peer, None, "the server authenticated a hostile client");
        let Err(Failure::Protocol(error)) = end.result else { panic!("{:?}", end.result) };
        let late = matches!(error, Error::TimedOut(TimedOut::Handshake));
        let expected = late
            || match error {
                Error::WrongKey | Error::Truncated(Truncated::Handshake) => true,
                Error::Malformed | Error::Incompatible => framed,
                Error::Channel(_) => setup.wrap.is_some(),
                _ => false,
            };
        assert!(expected, "{error:?}");
        // The handshake timeout, one second to send the alert and one to receive the peer's bytes.
        let has_alert = framed || setup.wrap.is_some();
        let deadline = Duration::from_secs(if has_alert { 7 } else { 6 });
        assert!(end.at <= Instant::EPOCH.saturating_add(deadline + SLACK), "{end:?}");
    }
}

#[test]
fn reset_link_ends_only_its_own_connection() {
    for_all_seeds(with_resets, check_others_served);
}

fn with_resets(rng: &mut Rng) -> Setup {
    Setup { resets: true, ..setup(rng) }
}

fn check_others_served(setup: &Setup, outcome: &Outcome) {
    outcome.served.iter().for_each(|served| assert_served(setup, served));
    for ServedConnection { service, .. } in &outcome.reset {
        // Replies that arrived before the reset are correct.
        assert!(expected_reply(setup, &service.sent()).starts_with(&service.received));
    }
    assert_eq!(outcome.served.len() + outcome.reset.len(), setup.honest);
    assert_eq!(outcome.leased, 0);
}

#[test]
fn orderly_stop_truncates_no_reply() {
    for_all_seeds(with_stop, check_no_reply_truncated);
}

fn with_stop(rng: &mut Rng) -> Setup {
    Setup { stop_at: Some(Instant::from_micros(rng.within(0, 300_000))), ..setup(rng) }
}

fn check_no_reply_truncated(setup: &Setup, outcome: &Outcome) {
    for ServedConnection { service, server, .. } in &outcome.served {
        assert!(expected_reply(setup, &service.sent()).starts_with(&service.received));
        // A client receives no partial message, and no error except that of a refused connection.
        let expected = match service.closed {
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
            // A TLS 1.3 client is established before the server has its certificate. If the server
            // stops in between, the client receives an end of stream without close_notify.
            Some(Err(Error::Truncated(Truncated::Stream))) => {
                setup.wrap.is_some() && server.peer.is_none()
            }
            _ => false,
        };
        assert!(expected, "{:?} {server:?}", service.closed);
    }
    assert_eq!(outcome.leased, 0);
}

#[test]
fn idle_peer_with_heartbeats_is_not_disconnected() {
    let idle = |rng: &mut Rng| Setup { linger: Duration::from_secs(90), ..with_heartbeats(rng) };
    for_all_seeds(idle, |setup, outcome| {
        assert_all_served(setup, outcome);
        assert!(outcome.at > Instant::EPOCH.saturating_add(Duration::from_secs(45)));
    });
}

#[test]
fn peer_of_a_slow_application_is_not_disconnected() {
    for_all_seeds(with_slow_application, assert_all_served);
}

fn with_slow_application(rng: &mut Rng) -> Setup {
    Setup {
        heartbeat: Duration::from_secs(1),
        // Longer than the timeout of a silent peer. The holds of both endpoints and the network
        // delays together are shorter than the stall timeout.
        hold: Duration::from_secs(10),
        // A held chunk keeps its buffer.
        buffers: 8,
        ..with_heartbeats(rng)
    }
}

#[test]
fn silent_peer_times_out_after_two_heartbeats_and_5_s() {
    for_all_seeds(with_frozen_links, check_silent_peers_timed_out);
}

fn with_frozen_links(rng: &mut Rng) -> Setup {
    Setup {
        // All messages are sent long before.
        linger: Duration::from_secs(1000),
        freeze_by: Some(Instant::EPOCH.saturating_add(FREEZE)),
        // Enough, because the time in which a session waits for a buffer is not charged to the
        // peer.
        buffers: 8,
        ..with_heartbeats(rng)
    }
}

fn check_silent_peers_timed_out(setup: &Setup, outcome: &Outcome) {
    assert_eq!(outcome.frozen.len(), setup.honest);
    for (served, at) in &outcome.frozen {
        assert_peers_agree(setup, served);
        assert_eq!(served.service.received, expected_reply(setup, &served.service.sent()));
        assert_eq!(served.service.closed, Some(Err(Error::TimedOut(TimedOut::Peer))));
        for end in [&served.client, &served.server] {
            let silent = Err(Failure::Protocol(Error::TimedOut(TimedOut::Peer)));
            assert_eq!(end.result, silent);
            let failed_at = end.failed_at.unwrap();
            // The last bytes arrived at most one heartbeat before the link froze.
            assert!(failed_at <= at.saturating_add(peer_timeout(setup)), "{end:?} {at:?}");
            let least = peer_timeout(setup).saturating_sub(setup.heartbeat + SLACK);
            assert!(failed_at >= at.saturating_add(least), "{end:?} {at:?}");
        }
    }
    assert_eq!(outcome.leased, 0);
}

#[test]
fn link_frozen_at_any_point_times_out() {
    let frozen = |rng: &mut Rng| Setup {
        freeze_by: Some(Instant::from_micros(rng.within(1, 400_000))),
        resets: rng.one_in(4),
        ..with_heartbeats(rng)
    };
    for_all_seeds(frozen, |setup, outcome| {
        outcome.served.iter().for_each(|served| assert_served(setup, served));
        for (served, at) in &outcome.frozen {
            assert!(
                expected_reply(setup, &served.service.sent()).starts_with(&served.service.received)
            );
            for end in [&served.client, &served.server] {
                // The stall timeout is 30 s. The time in which a session does not read, or waits
                // for a buffer that another stalled peer holds, is not charged to the peer.
                let stalls = setup.honest.div_ceil(setup.buffers) as u32;
                let latest =
                    at.saturating_add(Duration::from_secs(30) * stalls + peer_timeout(setup));
                let failed_at = end.failed_at.unwrap_or(*at);
                assert!(failed_at <= latest.saturating_add(SLACK), "{end:?} {at:?}");
            }
        }
        assert_eq!(outcome.leased, 0);
    });
}
