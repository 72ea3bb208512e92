//! How sealed sessions end, and what they say last.

use super::pair::*;
use super::*;
use crate::error::FrameError;

const DATA: u8 = 0x00;
const PING: u8 = 0x01;
const FIN: u8 = 0x04;
const CLOSE: u8 = 0x05;

/// A server, and a client that may send anything.
fn serving() -> (End, Rogue) {
    against(&server(), Role::Server, &client())
}

fn says(peer: &mut Rogue, end: &mut End) -> Vec<(u8, Vec<u8>)> {
    peer.read(&end.sent())
}

#[test]
fn a_close_behind_both_ends_is_an_orderly_end() {
    for (owed, shown) in [(false, false), (true, false), (true, true)] {
        let (mut end, mut peer) = serving();
        end.finish();
        assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
        if owed {
            end.feed(&peer.frame(PING, b"12345678"));
            assert_eq!(end.events(), []);
        }
        if shown {
            assert_eq!(end.transmit(3).len(), 3);
            assert!(!end.shown().is_empty());
        }
        end.feed(&[peer.frame(FIN, b""), peer.frame(CLOSE, &[0])].concat());
        assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
        assert!(end.session.is_done() && end.session.wants_shutdown());
        assert!(!end.session.wants_write());
        end.session.handle_transmitted(9, end.now);
        assert_eq!(end.sent(), b"");
        assert_eq!(end.timeout(), None);
    }
}

#[test]
fn a_close_before_our_own_end_is_out_is_an_error() {
    for finished in [true, false] {
        let (mut end, mut peer) = serving();
        if finished {
            end.finish();
            assert!(end.transmit(20).len() == 20, "but for one byte");
        }
        end.feed(&[peer.frame(FIN, b""), peer.frame(CLOSE, &[0])].concat());
        assert_eq!(end.poll(), Ok(Some(Event::PeerFinished)));
        assert_eq!(end.error(), Error::PeerClosed(CloseReason::Shutdown));
        assert!(end.session.is_done());
        assert_eq!(end.sent(), b"");
    }
}

#[test]
fn a_close_before_the_peers_own_end_is_an_error() {
    let (mut end, mut peer) = serving();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.feed(&peer.frame(CLOSE, &[0]));
    assert_eq!(end.error(), Error::PeerClosed(CloseReason::Shutdown));
}

#[test]
fn either_end_may_finish_first_and_the_other_goes_on() {
    for client_first in [true, false] {
        let (client, server) = established(&client(), &server());
        let (mut one, mut other) = if client_first { (client, server) } else { (server, client) };
        one.send(b"last").unwrap();
        one.finish();
        assert_eq!(one.send(b"more"), Err(SendError::Finished));
        assert!(!one.session.wants_shutdown() && one.session.wants_write());
        other.feed(&one.sent());
        assert!(!one.session.wants_shutdown(), "signs of life may follow");
        assert_eq!(other.events(), [whole()]);
        assert_eq!(other.chunk(), b"last");
        other.consume();
        assert_eq!(other.events(), [Event::PeerFinished]);
        assert!(!other.session.is_done() && other.session.wants_read());

        other.send(b"answer").unwrap();
        one.feed(&other.sent());
        assert_eq!(one.events(), [whole()]);
        assert_eq!(one.chunk(), b"answer");
        one.consume();
        assert_eq!(one.events(), []);

        other.finish();
        assert_eq!(other.events(), [], "its end is not out");
        let fin = other.sent();
        assert_eq!(other.events(), [Event::Closed]);
        one.feed(&fin);
        assert_eq!(one.events(), [Event::PeerFinished, Event::Closed]);
        for end in [&mut one, &mut other] {
            assert!(end.session.wants_shutdown() && end.session.is_done());
            assert!(!end.session.wants_read() && !end.session.wants_write());
            assert_eq!((end.sent(), end.timeout()), (vec![], None));
            assert_eq!(end.pools.held(), (0, 0, 0));
        }
    }
}

#[test]
fn a_session_is_closed_once_both_ends_are_in_and_out() {
    let (mut end, mut peer) = serving();
    end.feed(&peer.frame(FIN, b""));
    assert_eq!(end.events(), [Event::PeerFinished]);
    end.finish();
    for _ in 0..21 {
        assert_eq!(end.events(), []);
        assert!(!end.session.wants_shutdown() && !end.session.is_done());
        assert_eq!(end.transmit(1).len(), 1);
    }
    assert!(end.session.wants_shutdown());
    assert_eq!(end.events(), [Event::Closed]);
}

#[test]
fn an_end_of_which_nothing_else_is_known_is_a_frame_and_the_last_of_them() {
    let (mut end, mut peer) = serving();
    end.send(b"a").unwrap();
    end.finish();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(DATA, b"a".to_vec()), (FIN, vec![])]);
    end.finish();
    assert!(!end.session.wants_write());
    assert_eq!(end.sent(), b"");
}

#[test]
fn who_finishes_during_the_handshake_says_so_after_it() {
    let mut server = End::sealed(&server(), Role::Server);
    let mut client = End::sealed(&client(), Role::Client);
    server.finish();
    assert!(server.session.wants_write(), "the hello");
    client.hear(&server.sent());
    assert_eq!(server.hear(&client.sent()), []);
    let m3 = server.sent();
    assert_eq!(server.events(), [Event::Established]);
    assert!(!server.session.wants_shutdown() && server.session.wants_write());
    let fin = server.sent();
    assert_eq!(client.hear(&m3), [Event::Established]);
    assert_eq!(client.hear(&fin), [Event::PeerFinished]);
}

/// What a server says last, and whether it is done then, after `error`.
fn last_word(end: &mut End, peer: &mut Rogue, error: Error) -> Vec<(u8, Vec<u8>)> {
    assert_eq!(end.error(), error);
    let word = says(peer, end);
    assert!(end.session.is_done() && end.session.wants_shutdown());
    assert_eq!((end.timeout(), end.pools.held()), (None, (0, 0, 0)));
    assert_eq!(end.error(), error);
    word
}

fn close(code: u8) -> Vec<(u8, Vec<u8>)> {
    vec![(CLOSE, vec![code])]
}

#[test]
fn a_bad_frame_is_answered_with_close_protocol() {
    for (bad, kind, payload) in [
        (FrameError::Type, 0x3f, &b""[..]),
        (FrameError::Payload, PING, b"1234567"),
        (FrameError::Payload, 0x03, b""),
        (FrameError::Order, DATA, b"behind the end"),
    ] {
        let (mut end, mut peer) = serving();
        if bad == FrameError::Order {
            end.feed(&peer.frame(FIN, b""));
            assert_eq!(end.events(), [Event::PeerFinished]);
        }
        end.feed(&peer.frame(kind, payload));
        assert_eq!(last_word(&mut end, &mut peer, Error::Frame(bad)), close(1));
    }
    let (mut end, mut peer) = serving();
    let mut frame = peer.frame(DATA, b"changed");
    frame[5] ^= 1;
    end.feed(&frame);
    assert_eq!(last_word(&mut end, &mut peer, Error::Frame(FrameError::Tag)), close(1));
    let (mut end, mut peer) = serving();
    end.feed(&257_u32.to_be_bytes());
    assert_eq!(last_word(&mut end, &mut peer, Error::FrameTooLong { len: 257 }), close(1));
}

#[test]
fn a_peer_that_stalls_is_told_and_one_that_does_not_read_is_not() {
    let (mut end, mut peer) = serving();
    end.feed(&peer.frame(DATA, b"half")[..20]);
    assert_eq!(end.events(), []);
    end.at(15_000_000);
    assert_eq!(says(&mut peer, &mut end)[0].0, PING);
    end.at(30_000_000);
    let stalled = Error::TimedOut(TimedOut::Receive);
    assert_eq!(last_word(&mut end, &mut peer, stalled), close(2));

    let (mut end, mut peer) = serving();
    end.send(b"unread").unwrap();
    assert_eq!(end.transmit(3).len(), 3);
    assert!(!end.shown().is_empty());
    end.at(30_000_000);
    assert_eq!(last_word(&mut end, &mut peer, Error::TimedOut(TimedOut::Send)), []);
}

#[test]
fn an_abort_tells_why_behind_what_was_sent_before() {
    for (why, code) in [
        (CloseReason::Shutdown, 0),
        (CloseReason::Protocol, 1),
        (CloseReason::Timeout, 2),
        (CloseReason::Application, 3),
    ] {
        for outbox in [true, false] {
            let (mut end, mut peer) = serving();
            end.feed(&peer.frame(PING, b"12345678"));
            assert_eq!(end.events(), []);
            end.send(b"before").unwrap();
            if outbox {
                end.session.split().1.abort(why);
            } else {
                end.session.abort(why, end.now);
            }
            assert_eq!(end.error(), Error::Aborted(why));
            assert!(end.session.wants_write() && !end.session.is_done());
            assert_eq!(end.transmit(5).len() + end.shown().len(), 21 + 6, "not a byte between");
            let mut sent = end.session.poll_transmit(end.now).to_vec();
            end.session.handle_transmitted(sent.len(), end.now);
            assert!(!end.session.is_done(), "the reason is not out");
            sent.extend(end.sent());
            // The first five bytes are gone; what is left ends with the reason, and no PONG.
            assert_eq!(sent.len(), 22 + 22);
            assert_eq!(sent[22..27], [0, 0, 0, 18, CLOSE]);
            assert_eq!(sent[27], code);
            assert!(end.session.is_done() && end.session.wants_shutdown());
        }
    }
}

#[test]
fn a_close_means_what_its_code_says_and_that_nobody_reads_any_more() {
    for (code, why) in [
        (0, CloseReason::Shutdown),
        (1, CloseReason::Protocol),
        (2, CloseReason::Timeout),
        (3, CloseReason::Application),
    ] {
        let (mut end, mut peer) = serving();
        end.send(b"unread").unwrap();
        end.feed(&peer.frame(PING, b"12345678"));
        end.feed(&peer.frame(CLOSE, &[&[code], &b"in words"[..]].concat()));
        assert_eq!(last_word(&mut end, &mut peer, Error::PeerClosed(why)), []);
    }
}

#[test]
fn the_end_of_the_stream_is_no_end_of_messages() {
    let (mut end, mut peer) = serving();
    end.feed(&peer.frame(DATA, b"whole"));
    end.eof();
    assert_eq!(end.events(), [whole()]);
    end.consume();
    let cut = Error::Truncated(Truncated::Stream);
    assert_eq!(last_word(&mut end, &mut peer, cut), []);

    let (mut end, mut peer) = serving();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.eof();
    assert_eq!(last_word(&mut end, &mut peer, cut), []);
}

#[test]
fn the_end_of_the_stream_within_a_message_cuts_it_off() {
    let cut = Error::Truncated(Truncated::Message);
    for len in 1..5 + 16 + 4 {
        let (mut end, mut peer) = serving();
        end.feed(&peer.frame(DATA, b"half")[..len]);
        end.eof();
        assert_eq!(last_word(&mut end, &mut peer, cut), [], "{len}");
    }
    let (mut end, mut peer) = serving();
    end.feed(&peer.frame(0x03, b"part"));
    end.eof();
    assert_eq!(end.events(), [Event::Chunk { first: true, remaining: Remaining::More }]);
    end.consume();
    assert_eq!(last_word(&mut end, &mut peer, cut), []);
}

#[test]
fn an_end_of_the_stream_behind_the_end_of_messages_is_none_of_our_end() {
    let (mut end, mut peer) = serving();
    end.feed(&peer.frame(FIN, b""));
    end.eof();
    assert_eq!(end.events(), [Event::PeerFinished]);
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.send(b"answer").unwrap();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(DATA, b"answer".to_vec()), (FIN, vec![])]);
    assert_eq!(end.events(), [Event::Closed]);
}

#[test]
fn who_finishes_within_a_message_cuts_it_off_and_is_told() {
    let (mut client, mut server) = established(&client(), &server());
    client.send_chunk(b"part", Remaining::More).unwrap();
    assert!(!client.session.is_idle());
    client.finish();
    server.feed(&client.sent());
    assert_eq!(server.events(), [Event::Chunk { first: true, remaining: Remaining::More }]);
    server.consume();
    assert_eq!(server.error(), Error::Frame(FrameError::Order));
    client.feed(&server.sent());
    assert_eq!(client.error(), Error::PeerClosed(CloseReason::Protocol));
}
