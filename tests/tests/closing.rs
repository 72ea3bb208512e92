//! The end of a session with sealed frames: what is still sent and still read. And the failure
//! frame of a handshake.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{
    CloseReason, Config, Digest, Error, Event, Framing, Instant, Protocol, Role, Session,
};
use countersign_tests::python::FAILURE_FRAME;
use countersign_tests::{
    Action, FrameProtection, HonestPeer, LeasedBuffer, Policy, Pools, SECRET, SessionSpec, drain,
    frame, peer_role, receive,
};

const NOW: Instant = Instant::EPOCH;
const SPEC: SessionSpec = SessionSpec::Mutual(FrameProtection::Tags);
/// Longer than a silent peer is tolerated.
const LONG: Duration = Duration::from_secs(60);

fn connect(role: Role) -> (Session<LeasedBuffer>, HonestPeer) {
    let config = SPEC.config(role, HonestPeer::HEARTBEAT);
    let sizes = (config.receive_len(), Config::MIN_BUFFER);
    let mut tested = SPEC.session(role, &config, &Pools::default(), sizes);
    let (peer, _) = HonestPeer::connected(SPEC, &mut tested);
    (tested, peer)
}

fn events(session: &mut Session<LeasedBuffer>, bytes: &[u8]) -> Vec<Event> {
    receive(session, &SPEC.keys(SECRET), bytes, NOW).into_iter().map(|(event, _)| event).collect()
}

/// Returns a session after both FINs, before its events are polled, and its peer.
fn after_both_fins(role: Role) -> (Session<LeasedBuffer>, HonestPeer) {
    let (mut tested, mut peer) = connect(role);
    let fin = peer.perform(&Action::Finish);
    assert_eq!(events(&mut tested, &fin), [Event::PeerFinished]);
    tested.finish(NOW);
    assert!(!tested.wants_shutdown(), "its own FIN is not sent");
    assert!(!drain(&mut tested, NOW).is_empty());
    assert!(tested.wants_shutdown() && !tested.is_done());
    (tested, peer)
}

#[test]
fn ping_after_both_fins_is_not_answered() {
    for role in [Role::Client, Role::Server] {
        let (mut tested, mut peer) = after_both_fins(role);
        let ping = peer.perform(&Action::Ping);
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
fn no_ping_follows_both_fins() {
    let (mut tested, _) = after_both_fins(Role::Server);
    tested.handle_timeout(NOW.saturating_add(HonestPeer::HEARTBEAT));
    assert!(tested.wants_shutdown() && !tested.wants_write());
    assert_eq!(tested.poll_event(NOW), Ok(Some(Event::Closed)));
}

#[test]
fn no_close_follows_both_fins() {
    let (mut tested, _) = after_both_fins(Role::Client);
    tested.abort(CloseReason::Application, NOW);
    assert!(tested.wants_shutdown() && tested.is_done());
    assert_eq!(tested.poll_event(NOW), Err(Error::Aborted(CloseReason::Application)));
}

#[test]
fn peer_that_sent_fin_need_not_send_heartbeats() {
    let (mut tested, mut peer) = connect(Role::Server);
    let fin = peer.perform(&Action::Finish);
    let space = tested.recv_space();
    space[..fin.len()].copy_from_slice(&fin);
    tested.handle_received(fin.len(), NOW);
    // The driver may find the end of the stream while the frame is still unparsed, or by the next
    // read.
    tested.handle_eof(NOW);
    assert_eq!(tested.poll_event(NOW), Ok(Some(Event::PeerFinished)));
    let later = NOW.saturating_add(LONG);
    tested.handle_timeout(later);
    assert_eq!(tested.poll_event(later), Ok(None), "the application may still answer");
    tested.split().1.send(b"an answer that took long").unwrap();
    tested.finish(later);
    let received = peer.receive(&drain(&mut tested, later));
    assert_eq!(received[0].1, b"an answer that took long");
    assert_eq!(tested.poll_event(later), Ok(Some(Event::Closed)));
}

/// The peer may have closed its socket as soon as it had both FINs.
#[test]
fn unsent_ping_does_not_delay_closing() {
    for begun in [0, 5] {
        let (mut tested, mut peer) = connect(Role::Client);
        tested.finish(NOW);
        peer.receive(&drain(&mut tested, NOW));
        let later = NOW.saturating_add(HonestPeer::HEARTBEAT);
        tested.handle_timeout(later);
        assert!(tested.poll_transmit(later).len() > begun);
        tested.handle_transmitted(begun, later);
        assert!(tested.wants_write());
        let fin = peer.perform(&Action::Finish);
        assert_eq!(events(&mut tested, &fin), [Event::PeerFinished, Event::Closed]);
        assert!(tested.is_done() && !tested.wants_write() && tested.wants_shutdown());
    }
}

#[test]
fn no_pong_follows_both_fins() {
    let (mut tested, mut peer) = connect(Role::Server);
    let last = [peer.perform(&Action::Finish), peer.perform(&Action::Ping)].concat();
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

/// Returns an endpoint of `multiprocessing` whose peer has sent a wrong response, and nothing else
/// wrong.
fn after_wrong_response(role: Role, pools: &Pools) -> Session<LeasedBuffer> {
    let policy = Policy::Strict(Digest::Sha256);
    let spec = SessionSpec::Multiprocessing(policy, Framing::Multiprocessing);
    let config = spec.config(role, HonestPeer::HEARTBEAT);
    let mut tested = spec.session(role, &config, pools, (Config::MIN_BUFFER, Config::MIN_BUFFER));
    drain(&mut tested, NOW);
    let challenge = spec.greeting(Role::Server);
    let response = frame(&[&b"{sha256}"[..], &[7; 32]].concat());
    let frames = match peer_role(role) {
        Role::Client => vec![response],
        Role::Server => vec![challenge, frame(b"#WELCOME#"), response],
    };
    for sent in frames {
        receive(&mut tested, &spec.keys(SECRET), &sent, NOW);
        if tested.poll_event(NOW).is_ok() {
            drain(&mut tested, NOW);
        }
    }
    assert_eq!(tested.poll_event(NOW), Err(Error::WrongKey));
    tested
}

#[test]
fn failure_frame_is_dropped_after_one_second() {
    let second = NOW.saturating_add(Duration::from_secs(1));
    for role in [Role::Client, Role::Server] {
        for begun in 0..=FAILURE_FRAME.len() {
            let pools = Pools::default();
            let mut tested = after_wrong_response(role, &pools);
            assert_eq!(pools.held(), 0, "a failed session holds a lease");
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
