//! Sessions inside TLS, and when they start.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use countersign::{Config, Error, Instant, Protocol, Role, Session, TimedOut, Truncated};
use countersign_tests::{EXPORTER, FrameProtection, HonestPeer, LeasedBuffer, Pools, SessionSpec};

const NOW: Instant = Instant::EPOCH;
const SPEC: SessionSpec = SessionSpec::Mutual(FrameProtection::Bound);

fn unbound(role: Role) -> Session<LeasedBuffer> {
    let config = SPEC.config(role, HonestPeer::HEARTBEAT);
    SPEC.unbound_session(
        role,
        &config,
        &Pools::default(),
        (config.receive_len(), Config::MIN_BUFFER),
    )
}

#[test]
fn unbound_session_waits_and_sends_nothing() {
    for role in [Role::Client, Role::Server] {
        let mut session = unbound(role);
        assert_eq!(session.poll_event(NOW), Ok(None));
        assert!(!session.wants_read() && !session.wants_write());
        assert!(session.recv_space().is_empty());
        session.bind_channel(&EXPORTER, NOW);
        assert_eq!(session.poll_event(NOW), Ok(None));
        assert_eq!(session.wants_write(), role == Role::Server);
        assert!(session.wants_read());
        HonestPeer::connected(SPEC, &mut session);
    }
}

#[test]
fn unbound_session_has_the_handshake_deadline() {
    let mut session = unbound(Role::Server);
    let deadline = NOW.saturating_add(Duration::from_secs(5));
    assert_eq!(session.poll_timeout(), Some(deadline));
    session.handle_timeout(deadline);
    assert_eq!(session.poll_event(deadline), Err(Error::TimedOut(TimedOut::Handshake)));
    assert!(session.is_done(), "no output is pending");
}

#[test]
fn eof_before_the_binding_is_a_truncation() {
    let mut session = unbound(Role::Client);
    session.handle_eof(NOW);
    assert_eq!(session.poll_event(NOW), Err(Error::Truncated(Truncated::Handshake)));
}
