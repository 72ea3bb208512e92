//! Where a session with sealed frames ends: who still speaks, and who is still listened to. And what
//! a handshake says last that has failed.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{
    CloseReason, Config, Digest, Error, Event, Framing, Instant, Protocol, Role, Session,
};
use countersign_tests::python::FAILURE_FRAME;
use countersign_tests::{
    Cover, Honest, Policy, Pools, Region, SECRET, Say, Speech, drain, frame, hear, other,
};

const NOW: Instant = Instant::EPOCH;
const SPEECH: Speech = Speech::Mutual(Cover::Tags);
/// Longer than a silent peer is borne with.
const LONG: Duration = Duration::from_secs(60);

fn met(role: Role) -> (Session<Region>, Honest) {
    let config = SPEECH.config(role, Honest::HEARTBEAT);
    let sizes = (config.receive_len(), Config::MIN_BUFFER);
    let mut tested = SPEECH.end(role, &config, &Pools::default(), sizes);
    let (peer, _) = Honest::met(SPEECH, &mut tested);
    (tested, peer)
}

fn events(session: &mut Session<Region>, bytes: &[u8]) -> Vec<Event> {
    hear(session, &SPEECH.ring(SECRET), bytes, NOW).into_iter().map(|(event, _)| event).collect()
}

/// Both have finished, and the session has not been asked what that means.
fn over(role: Role) -> (Session<Region>, Honest) {
    let (mut tested, mut peer) = met(role);
    let fin = peer.say(&Say::Finish);
    assert_eq!(events(&mut tested, &fin), [Event::PeerFinished]);
    tested.finish(NOW);
    assert!(!tested.wants_shutdown(), "its own last word is not out");
    assert!(!drain(&mut tested, NOW).is_empty());
    assert!(tested.wants_shutdown() && !tested.is_done());
    (tested, peer)
}

#[test]
fn a_ping_that_crosses_our_last_word_is_not_answered() {
    for role in [Role::Client, Role::Server] {
        let (mut tested, mut peer) = over(role);
        let ping = peer.say(&Say::Ping);
        assert!(!ping.is_empty());
        let space = tested.recv_space();
        space[..ping.len()].copy_from_slice(&ping);
        tested.handle_received(ping.len(), NOW);
        assert_eq!(tested.poll_event(NOW), Ok(Some(Event::Closed)));
        assert_eq!(tested.poll_transmit(NOW), b"");
        assert!(tested.wants_shutdown() && tested.is_done());
    }
}

#[test]
fn no_sign_of_life_follows_both_last_words() {
    let (mut tested, _) = over(Role::Server);
    tested.handle_timeout(NOW.saturating_add(Honest::HEARTBEAT));
    assert!(tested.wants_shutdown() && !tested.wants_write());
    assert_eq!(tested.poll_event(NOW), Ok(Some(Event::Closed)));
}

#[test]
fn no_reason_follows_both_last_words() {
    let (mut tested, _) = over(Role::Client);
    tested.abort(CloseReason::Application, NOW);
    assert!(tested.wants_shutdown() && tested.is_done());
    assert_eq!(tested.poll_event(NOW), Err(Error::Aborted(CloseReason::Application)));
}

#[test]
fn of_a_peer_that_has_shut_its_write_side_no_sign_of_life_is_expected() {
    let (mut tested, mut peer) = met(Role::Server);
    let fin = peer.say(&Say::Finish);
    let space = tested.recv_space();
    space[..fin.len()].copy_from_slice(&fin);
    tested.handle_received(fin.len(), NOW);
    // It is found with the frame already there, or by the next read.
    tested.handle_eof(NOW);
    assert_eq!(tested.poll_event(NOW), Ok(Some(Event::PeerFinished)));
    let later = NOW.saturating_add(LONG);
    tested.handle_timeout(later);
    assert_eq!(tested.poll_event(later), Ok(None), "it may still be answered");
    tested.split().1.send(b"an answer that took long").unwrap();
    tested.finish(later);
    let heard = peer.hear(&drain(&mut tested, later));
    assert_eq!(heard[0].1, b"an answer that took long");
    assert_eq!(tested.poll_event(later), Ok(Some(Event::Closed)));
}

/// The peer may have closed its socket as soon as it had both last words.
#[test]
fn a_sign_of_life_that_cannot_leave_does_not_hold_up_the_end() {
    for begun in [0, 5] {
        let (mut tested, mut peer) = met(Role::Client);
        tested.finish(NOW);
        peer.hear(&drain(&mut tested, NOW));
        let later = NOW.saturating_add(Honest::HEARTBEAT);
        tested.handle_timeout(later);
        assert!(tested.poll_transmit(later).len() > begun);
        tested.handle_transmitted(begun, later);
        assert!(tested.wants_write());
        let fin = peer.say(&Say::Finish);
        assert_eq!(events(&mut tested, &fin), [Event::PeerFinished, Event::Closed]);
        assert!(tested.is_done() && !tested.wants_write() && tested.wants_shutdown());
    }
}

#[test]
fn an_answer_to_a_ping_that_came_behind_the_peers_last_word_is_not_sent_behind_ours() {
    let (mut tested, mut peer) = met(Role::Server);
    let last = [peer.say(&Say::Finish), peer.say(&Say::Ping)].concat();
    assert_eq!(events(&mut tested, &last[..21]), [Event::PeerFinished]);
    tested.finish(NOW);
    assert_eq!(tested.poll_transmit(NOW).len(), 21);
    tested.handle_transmitted(20, NOW);
    assert_eq!(events(&mut tested, &last[21..]), []);
    assert_eq!(tested.poll_transmit(NOW).len(), 1);
    tested.handle_transmitted(1, NOW);
    assert!(tested.wants_shutdown() && !tested.wants_write());
    assert_eq!(tested.poll_event(NOW), Ok(Some(Event::Closed)));
}

/// An end of `multiprocessing` of which the peer has given a wrong response, and nothing else wrong.
fn wrongly_answered(role: Role, pools: &Pools) -> Session<Region> {
    let policy = Policy::Strict(Digest::Sha256);
    let speech = Speech::Multiprocessing(policy, Framing::Multiprocessing);
    let config = speech.config(role, Honest::HEARTBEAT);
    let mut tested = speech.end(role, &config, pools, (Config::MIN_BUFFER, Config::MIN_BUFFER));
    drain(&mut tested, NOW);
    let challenge = speech.greeting(Role::Server);
    let response = frame(&[&b"{sha256}"[..], &[7; 32]].concat());
    let says = match other(role) {
        Role::Client => vec![response],
        Role::Server => vec![challenge, frame(b"#WELCOME#"), response],
    };
    for said in says {
        hear(&mut tested, &speech.ring(SECRET), &said, NOW);
        if tested.poll_event(NOW).is_ok() {
            drain(&mut tested, NOW);
        }
    }
    assert_eq!(tested.poll_event(NOW), Err(Error::WrongKey));
    tested
}

#[test]
fn who_has_given_a_wrong_response_has_a_second_to_hear_it() {
    let second = NOW.saturating_add(Duration::from_secs(1));
    for role in [Role::Client, Role::Server] {
        for begun in 0..=FAILURE_FRAME.len() {
            let pools = Pools::default();
            let mut tested = wrongly_answered(role, &pools);
            assert_eq!(pools.held(), 0, "it costs nobody a buffer");
            assert_eq!(tested.poll_transmit(NOW), FAILURE_FRAME);
            tested.handle_transmitted(begun, NOW);
            let whole = begun == FAILURE_FRAME.len();
            assert_eq!((tested.is_done(), tested.wants_shutdown()), (whole, whole));
            assert_eq!(tested.poll_timeout(), (!whole).then_some(second));
            tested.handle_timeout(second);
            assert!(tested.is_done() && tested.wants_shutdown() && !tested.wants_write());
        }
    }
}
