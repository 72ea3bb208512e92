//! How sealed sessions end, and the last frames that they send.

use super::pair::*;
use super::scripted_peer::*;
use super::*;
use crate::error::FrameError;

/// A server that is established with a scripted client.
fn connected_server() -> (Endpoint, ScriptedPeer) {
    with_scripted_peer(&server(), Role::Server, &client())
}

#[test]
fn close_after_both_fins_is_orderly() {
    for (pong_pending, pong_started) in [(false, false), (true, false), (true, true)] {
        let (mut endpoint, mut peer) = connected_server();
        endpoint.finish();
        assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
        if pong_pending {
            endpoint.feed(&peer.frame(PING, b"12345678"));
            assert_eq!(endpoint.events(), []);
        }
        if pong_started {
            assert_eq!(endpoint.transmit(3).len(), 3);
            assert!(!endpoint.pending_output().is_empty());
        }
        endpoint.feed(&[peer.frame(FIN, b""), peer.frame(CLOSE, &[0])].concat());
        assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
        assert!(endpoint.session.is_done() && endpoint.session.wants_shutdown());
        assert!(!endpoint.session.wants_write());
        endpoint.session.handle_transmitted(9, endpoint.now);
        assert_eq!(endpoint.transmit_all(), b"");
        assert_eq!(endpoint.timeout(), None);
    }
}

#[test]
fn close_before_our_fin_is_sent_is_an_error() {
    for finished in [true, false] {
        let (mut endpoint, mut peer) = connected_server();
        if finished {
            endpoint.finish();
            assert!(endpoint.transmit(20).len() == 20, "all but one byte of FIN");
        }
        endpoint.feed(&[peer.frame(FIN, b""), peer.frame(CLOSE, &[0])].concat());
        assert_eq!(endpoint.poll(), Ok(Some(Event::PeerFinished)));
        assert_eq!(endpoint.error(), Error::PeerClosed(CloseReason::Shutdown));
        assert!(endpoint.session.is_done());
        assert_eq!(endpoint.transmit_all(), b"");
    }
}

#[test]
fn close_before_the_peers_fin_is_an_error() {
    let (mut endpoint, mut peer) = connected_server();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.feed(&peer.frame(CLOSE, &[0]));
    assert_eq!(endpoint.error(), Error::PeerClosed(CloseReason::Shutdown));
}

#[test]
fn either_side_may_finish_first() {
    for client_first in [true, false] {
        let (client, server) = established(&client(), &server());
        let (mut first, mut second) =
            if client_first { (client, server) } else { (server, client) };
        first.send(b"last").unwrap();
        first.finish();
        assert_eq!(first.send(b"more"), Err(SendError::Finished));
        assert!(!first.session.wants_shutdown() && first.session.wants_write());
        second.feed(&first.transmit_all());
        assert!(!first.session.wants_shutdown(), "control frames may follow FIN");
        assert_eq!(second.events(), [whole_message()]);
        assert_eq!(second.chunk(), b"last");
        second.consume();
        assert_eq!(second.events(), [Event::PeerFinished]);
        assert!(!second.session.is_done() && second.session.wants_read());

        second.send(b"answer").unwrap();
        first.feed(&second.transmit_all());
        assert_eq!(first.events(), [whole_message()]);
        assert_eq!(first.chunk(), b"answer");
        first.consume();
        assert_eq!(first.events(), []);

        second.finish();
        assert_eq!(second.events(), [], "its FIN is not transmitted yet");
        let fin = second.transmit_all();
        assert_eq!(second.events(), [Event::Closed]);
        first.feed(&fin);
        assert_eq!(first.events(), [Event::PeerFinished, Event::Closed]);
        for endpoint in [&mut first, &mut second] {
            assert!(endpoint.session.wants_shutdown() && endpoint.session.is_done());
            assert!(!endpoint.session.wants_read() && !endpoint.session.wants_write());
            assert_eq!((endpoint.transmit_all(), endpoint.timeout()), (vec![], None));
            assert_eq!(endpoint.pools.held(), (0, 0, 0));
        }
    }
}

#[test]
fn session_closes_once_both_fins_are_exchanged() {
    let (mut endpoint, mut peer) = connected_server();
    endpoint.feed(&peer.frame(FIN, b""));
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    endpoint.finish();
    for _ in 0..21 {
        assert_eq!(endpoint.events(), []);
        assert!(!endpoint.session.wants_shutdown() && !endpoint.session.is_done());
        assert_eq!(endpoint.transmit(1).len(), 1);
    }
    assert!(endpoint.session.wants_shutdown());
    assert_eq!(endpoint.events(), [Event::Closed]);
}

#[test]
fn fin_is_sent_once_and_last() {
    let (mut endpoint, mut peer) = connected_server();
    endpoint.send(b"a").unwrap();
    endpoint.finish();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(DATA, b"a".to_vec()), (FIN, vec![])]);
    endpoint.finish();
    assert!(!endpoint.session.wants_write());
    assert_eq!(endpoint.transmit_all(), b"");
}

#[test]
fn early_finish_sends_fin_after_m3() {
    let mut server = Endpoint::sealed(&server(), Role::Server);
    let mut client = Endpoint::sealed(&client(), Role::Client);
    server.finish();
    assert!(server.session.wants_write(), "M1 is pending");
    client.deliver(&server.transmit_all());
    assert_eq!(server.deliver(&client.transmit_all()), []);
    let m3 = server.transmit_all();
    assert_eq!(server.events(), [Event::Established]);
    assert!(!server.session.wants_shutdown() && server.session.wants_write());
    let fin = server.transmit_all();
    assert_eq!(client.deliver(&m3), [Event::Established]);
    assert_eq!(client.deliver(&fin), [Event::PeerFinished]);
}

/// The frames that a session sends after `error`; the session must then be done.
fn final_frames(
    endpoint: &mut Endpoint,
    peer: &mut ScriptedPeer,
    error: Error,
) -> Vec<(u8, Vec<u8>)> {
    assert_eq!(endpoint.error(), error);
    let frames = peer.receive_from(endpoint);
    assert!(endpoint.session.is_done() && endpoint.session.wants_shutdown());
    assert_eq!((endpoint.timeout(), endpoint.pools.held()), (None, (0, 0, 0)));
    assert_eq!(endpoint.error(), error);
    frames
}

fn close(code: u8) -> Vec<(u8, Vec<u8>)> {
    vec![(CLOSE, vec![code])]
}

#[test]
fn invalid_frame_is_answered_with_close_protocol() {
    for (bad, kind, payload) in [
        (FrameError::Type, 0x3f, &b""[..]),
        (FrameError::Payload, PING, b"1234567"),
        (FrameError::Payload, PARTIAL, b""),
        (FrameError::Order, DATA, b"behind the end"),
    ] {
        let (mut endpoint, mut peer) = connected_server();
        if bad == FrameError::Order {
            endpoint.feed(&peer.frame(FIN, b""));
            assert_eq!(endpoint.events(), [Event::PeerFinished]);
        }
        endpoint.feed(&peer.frame(kind, payload));
        assert_eq!(final_frames(&mut endpoint, &mut peer, Error::Frame(bad)), close(1));
    }
    let (mut endpoint, mut peer) = connected_server();
    let mut frame = peer.frame(DATA, b"changed");
    frame[5] ^= 1;
    endpoint.feed(&frame);
    assert_eq!(final_frames(&mut endpoint, &mut peer, Error::Frame(FrameError::Tag)), close(1));
    let (mut endpoint, mut peer) = connected_server();
    endpoint.feed(&257_u32.to_be_bytes());
    assert_eq!(final_frames(&mut endpoint, &mut peer, Error::FrameTooLong { len: 257 }), close(1));
}

#[test]
fn receive_stall_sends_close_and_send_stall_does_not() {
    let (mut endpoint, mut peer) = connected_server();
    endpoint.feed(&peer.frame(DATA, b"half")[..20]);
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(15_000_000);
    assert_eq!(peer.receive_from(&mut endpoint)[0].0, PING);
    endpoint.advance_to(30_000_000);
    let stalled = Error::TimedOut(TimedOut::Receive);
    assert_eq!(final_frames(&mut endpoint, &mut peer, stalled), close(2));

    let (mut endpoint, mut peer) = connected_server();
    endpoint.send(b"unread").unwrap();
    assert_eq!(endpoint.transmit(3).len(), 3);
    assert!(!endpoint.pending_output().is_empty());
    endpoint.advance_to(30_000_000);
    assert_eq!(final_frames(&mut endpoint, &mut peer, Error::TimedOut(TimedOut::Send)), []);
}

#[test]
fn abort_sends_close_after_queued_messages() {
    for (reason, code) in [
        (CloseReason::Shutdown, 0),
        (CloseReason::Protocol, 1),
        (CloseReason::Timeout, 2),
        (CloseReason::Application, 3),
    ] {
        for outbox in [true, false] {
            let (mut endpoint, mut peer) = connected_server();
            endpoint.feed(&peer.frame(PING, b"12345678"));
            assert_eq!(endpoint.events(), []);
            endpoint.send(b"before").unwrap();
            if outbox {
                endpoint.session.split().1.abort(reason);
            } else {
                endpoint.session.abort(reason, endpoint.now);
            }
            assert_eq!(endpoint.error(), Error::Aborted(reason));
            assert!(endpoint.session.wants_write() && !endpoint.session.is_done());
            assert_eq!(
                endpoint.transmit(5).len() + endpoint.pending_output().len(),
                21 + 6,
                "DATA and CLOSE are offered in two pieces"
            );
            let mut sent = endpoint.session.poll_transmit(endpoint.now).to_vec();
            endpoint.session.handle_transmitted(sent.len(), endpoint.now);
            assert!(!endpoint.session.is_done(), "CLOSE is not transmitted yet");
            sent.extend(endpoint.transmit_all());
            // The first five bytes are transmitted; the rest of DATA and a CLOSE follow, no PONG.
            assert_eq!(sent.len(), 22 + 22);
            assert_eq!(sent[22..27], [0, 0, 0, 18, CLOSE]);
            assert_eq!(sent[27], code);
            assert!(endpoint.session.is_done() && endpoint.session.wants_shutdown());
        }
    }
}

#[test]
fn received_close_code_is_reported_and_stops_sending() {
    for (code, reason) in [
        (0, CloseReason::Shutdown),
        (1, CloseReason::Protocol),
        (2, CloseReason::Timeout),
        (3, CloseReason::Application),
    ] {
        let (mut endpoint, mut peer) = connected_server();
        endpoint.send(b"unread").unwrap();
        endpoint.feed(&peer.frame(PING, b"12345678"));
        endpoint.feed(&peer.frame(CLOSE, &[&[code], &b"in words"[..]].concat()));
        assert_eq!(final_frames(&mut endpoint, &mut peer, Error::PeerClosed(reason)), []);
    }
}

#[test]
fn eof_without_fin_is_truncated() {
    let (mut endpoint, mut peer) = connected_server();
    endpoint.feed(&peer.frame(DATA, b"whole"));
    endpoint.eof();
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.consume();
    let truncated = Error::Truncated(Truncated::Stream);
    assert_eq!(final_frames(&mut endpoint, &mut peer, truncated), []);

    let (mut endpoint, mut peer) = connected_server();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.eof();
    assert_eq!(final_frames(&mut endpoint, &mut peer, truncated), []);
}

#[test]
fn eof_within_a_sealed_message_is_truncated() {
    let truncated = Error::Truncated(Truncated::Message);
    for len in 1..5 + 16 + 4 {
        let (mut endpoint, mut peer) = connected_server();
        endpoint.feed(&peer.frame(DATA, b"half")[..len]);
        endpoint.eof();
        assert_eq!(final_frames(&mut endpoint, &mut peer, truncated), [], "{len}");
    }
    let (mut endpoint, mut peer) = connected_server();
    endpoint.feed(&peer.frame(PARTIAL, b"part"));
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::Chunk { first: true, remaining: Remaining::More }]);
    endpoint.consume();
    assert_eq!(final_frames(&mut endpoint, &mut peer, truncated), []);
}

#[test]
fn eof_after_the_peers_fin_keeps_our_direction_open() {
    let (mut endpoint, mut peer) = connected_server();
    endpoint.feed(&peer.frame(FIN, b""));
    endpoint.eof();
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.send(b"answer").unwrap();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(DATA, b"answer".to_vec()), (FIN, vec![])]);
    assert_eq!(endpoint.events(), [Event::Closed]);
}

#[test]
fn finish_within_a_sealed_message_is_a_protocol_error() {
    let (mut client, mut server) = established(&client(), &server());
    client.send_chunk(b"part", Remaining::More).unwrap();
    assert!(!client.session.is_idle());
    client.finish();
    server.feed(&client.transmit_all());
    assert_eq!(server.events(), [Event::Chunk { first: true, remaining: Remaining::More }]);
    server.consume();
    assert_eq!(server.error(), Error::Frame(FrameError::Order));
    client.feed(&server.transmit_all());
    assert_eq!(client.error(), Error::PeerClosed(CloseReason::Protocol));
}
