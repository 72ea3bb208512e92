use super::*;

#[test]
fn an_error_is_the_same_for_ever() {
    let mut end = End::open(&framed(Framing::U32).with_max_frame(1));
    end.feed(&frame(b"too long"));
    let error = end.error();
    assert_eq!(error, Error::FrameTooLong { len: 8 });
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.error(), error);
    end.eof();
    end.finish();
    end.consume();
    end.at(u64::MAX);
    assert_eq!(end.offer(b"more"), 0);
    end.session.handle_received(9, end.now);
    assert_eq!(end.error(), error);
    assert_eq!(end.error(), error);
}

#[test]
fn what_was_queued_before_an_error_still_drains() {
    let mut end = End::open(&framed(Framing::U32).with_max_frame(1));
    end.send(b"the last word").unwrap();
    end.feed(&frame(b"too long"));
    let error = end.error();
    assert!(!end.session.is_done() && !end.session.wants_shutdown());
    assert!(end.session.wants_write());
    let mut sent = end.transmit(3);
    assert_eq!(end.error(), error);
    assert!(!end.session.is_done());
    sent.extend(end.sent());
    assert_eq!(sent, frame(b"the last word"));
    assert!(end.session.is_done() && end.session.wants_shutdown());
    assert_eq!(end.error(), error);
    assert_eq!(end.timeout(), None);
}

#[test]
fn after_an_error_nothing_is_read_and_no_part_is_at_hand() {
    let mut end = End::open(&framed(Framing::U32));
    end.feed(&frame(b"part"));
    assert_eq!(end.events(), [whole()]);
    end.session.abort(CloseReason::Protocol, end.now);
    assert_eq!(end.chunk(), b"");
    assert!(!end.session.wants_read());
    assert!(end.session.recv_space().is_empty());
    assert_eq!(end.error(), Error::Aborted(CloseReason::Protocol));
}

#[test]
fn an_error_announces_no_room() {
    let mut end = End::open(&framed(Framing::Raw));
    end.send(&[1; 64]).unwrap();
    assert_eq!(end.send(b"more"), Err(SendError::Full));
    end.session.abort(CloseReason::Timeout, end.now);
    end.sent();
    assert_eq!(end.error(), Error::Aborted(CloseReason::Timeout));
}

#[test]
fn aborting_gives_the_reason_at_any_time_but_the_end() {
    let abort = |mut end: End| {
        end.session.abort(CloseReason::Application, end.now);
        end.sent();
        assert!(end.session.is_done() && end.session.wants_shutdown());
        assert_eq!(end.pools.held(), (0, 0, 0));
        assert_eq!(end.timeout(), None);
        end.error()
    };
    let aborted = Error::Aborted(CloseReason::Application);
    assert_eq!(abort(End::server(&challenge(Digest::Sha256))), aborted);
    assert_eq!(abort(End::client(&challenge(Digest::Sha256))), aborted);
    assert_eq!(abort(End::server(&framed(Framing::U32))), aborted);
    let mut end = End::open(&framed(Framing::U32));
    end.eof();
    end.finish();
    assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
    end.session.abort(CloseReason::Application, end.now);
    assert_eq!(end.events(), [], "an orderly end is an end");
}

#[test]
fn a_peer_is_not_forgotten_when_its_session_fails() {
    let mut end = End::open(&framed(Framing::U32));
    end.session.abort(CloseReason::Application, end.now);
    assert!(end.session.peer().is_some());
    let mut end = End::server(&framed(Framing::U32));
    end.session.abort(CloseReason::Application, end.now);
    assert!(end.session.peer().is_none(), "it was never established");
}
