//! Failed and aborted sessions.

use super::*;

#[test]
fn first_error_is_sticky() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32).with_max_frame(1));
    endpoint.feed(&frame(b"too long"));
    let error = endpoint.error();
    assert_eq!(error, Error::FrameTooLong { len: 8 });
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert_eq!(endpoint.error(), error);
    endpoint.eof();
    endpoint.finish();
    endpoint.consume();
    endpoint.advance_to(u64::MAX);
    assert_eq!(endpoint.offer(b"more"), 0);
    endpoint.session.handle_received(9, endpoint.now);
    assert_eq!(endpoint.error(), error);
    assert_eq!(endpoint.error(), error);
}

#[test]
fn queued_messages_drain_after_an_error() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32).with_max_frame(1));
    endpoint.send(b"queued before").unwrap();
    endpoint.feed(&frame(b"too long"));
    let error = endpoint.error();
    assert!(!endpoint.session.is_done() && !endpoint.session.wants_shutdown());
    assert!(endpoint.session.wants_write());
    let mut transmitted = endpoint.transmit(3);
    assert_eq!(endpoint.error(), error);
    assert!(!endpoint.session.is_done());
    transmitted.extend(endpoint.transmit_all());
    assert_eq!(transmitted, frame(b"queued before"));
    assert!(endpoint.session.is_done() && endpoint.session.wants_shutdown());
    assert_eq!(endpoint.error(), error);
    assert_eq!(endpoint.timeout(), None);
}

#[test]
fn failed_session_reads_nothing_and_drops_its_chunk() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.feed(&frame(b"chunk"));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.session.abort(CloseReason::Protocol, endpoint.now);
    assert_eq!(endpoint.chunk(), b"");
    assert!(!endpoint.session.wants_read());
    assert!(endpoint.session.recv_space().is_empty());
    assert_eq!(endpoint.error(), Error::Aborted(CloseReason::Protocol));
}

#[test]
fn failed_session_emits_no_writable() {
    let mut endpoint = Endpoint::established(&framed(Framing::Raw));
    endpoint.send(&[1; 64]).unwrap();
    assert_eq!(endpoint.send(b"more"), Err(SendError::Full));
    endpoint.session.abort(CloseReason::Timeout, endpoint.now);
    endpoint.transmit_all();
    assert_eq!(endpoint.error(), Error::Aborted(CloseReason::Timeout));
}

#[test]
fn abort_reports_its_reason_unless_already_closed() {
    let abort = |mut endpoint: Endpoint| {
        endpoint.session.abort(CloseReason::Application, endpoint.now);
        endpoint.transmit_all();
        assert!(endpoint.session.is_done() && endpoint.session.wants_shutdown());
        assert_eq!(endpoint.pools.held(), (0, 0, 0));
        assert_eq!(endpoint.timeout(), None);
        endpoint.error()
    };
    let aborted = Error::Aborted(CloseReason::Application);
    assert_eq!(abort(Endpoint::server(&challenge(Digest::Sha256))), aborted);
    assert_eq!(abort(Endpoint::client(&challenge(Digest::Sha256))), aborted);
    assert_eq!(abort(Endpoint::server(&framed(Framing::U32))), aborted);
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.eof();
    endpoint.finish();
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert_eq!(endpoint.events(), [], "a closed session stays closed");
}

#[test]
fn peer_info_outlives_session_failure() {
    let mut endpoint = Endpoint::established(&framed(Framing::U32));
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert!(endpoint.session.peer().is_some());
    let mut endpoint = Endpoint::server(&framed(Framing::U32));
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert!(endpoint.session.peer().is_none(), "the session was never established");
}
