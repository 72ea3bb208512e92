//! Control frames, and how they go with messages.

use super::pair::*;
use super::*;

const DATA: u8 = 0x00;
const PING: u8 = 0x01;
const PONG: u8 = 0x02;
const PARTIAL: u8 = 0x03;
const FIN: u8 = 0x04;

/// A client, and a server that may send anything.
fn asking() -> (End, Rogue) {
    against(&client(), Role::Client, &server())
}

fn says(peer: &mut Rogue, end: &mut End) -> Vec<(u8, Vec<u8>)> {
    peer.read(&end.sent())
}

fn pong(token: &[u8; 8]) -> (u8, Vec<u8>) {
    (PONG, token.to_vec())
}

#[test]
fn a_ping_is_answered_and_of_several_the_newest() {
    let (mut end, mut peer) = asking();
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert!(!end.session.wants_write(), "nobody has looked at it");
    assert_eq!(end.events(), []);
    assert!(end.session.wants_write() && !end.session.is_idle());
    assert_eq!(says(&mut peer, &mut end), [pong(b"aaaaaaaa")]);
    assert!(!end.session.wants_write() && end.session.is_idle());
    assert_eq!(end.sent(), b"");

    let pings = [peer.frame(PING, b"bbbbbbbb"), peer.frame(PING, b"cccccccc")].concat();
    end.feed(&pings);
    assert_eq!(end.events(), []);
    end.feed(&peer.frame(PING, b"dddddddd"));
    assert_eq!(end.events(), []);
    assert_eq!(says(&mut peer, &mut end), [pong(b"dddddddd")]);
}

#[test]
fn an_answer_that_has_begun_to_leave_is_finished_before_the_next() {
    let (mut end, mut peer) = asking();
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(end.events(), []);
    let mut sent = end.transmit(1);
    end.feed(&[peer.frame(PING, b"bbbbbbbb"), peer.frame(PING, b"cccccccc")].concat());
    assert_eq!(end.events(), []);
    end.send(b"message").unwrap();
    sent.extend(end.sent());
    let frames = [pong(b"aaaaaaaa"), (DATA, b"message".to_vec()), pong(b"cccccccc")];
    assert_eq!(peer.read(&sent), frames);
}

#[test]
fn a_frame_that_has_begun_to_leave_is_not_interrupted() {
    for cut in 1..28 {
        let (mut end, mut peer) = asking();
        end.send(b"message").unwrap();
        let mut sent = end.transmit(cut);
        end.feed(&peer.frame(PING, b"aaaaaaaa"));
        assert_eq!(end.events(), []);
        end.finish();
        sent.extend(end.sent());
        let frames = [(DATA, b"message".to_vec()), pong(b"aaaaaaaa"), (FIN, vec![])];
        assert_eq!(peer.read(&sent), frames, "{cut}");
    }
}

#[test]
fn a_byte_at_a_time_the_same_leaves() {
    let (mut end, mut peer) = asking();
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(end.events(), []);
    end.send(b"one").unwrap();
    end.finish();
    let mut sent = Vec::new();
    while end.session.wants_write() {
        sent.push(end.transmit(1)[0]);
        assert!(sent.len() < 100, "there is no end of bytes");
    }
    assert_eq!(peer.read(&sent), [(DATA, b"one".to_vec()), pong(b"aaaaaaaa"), (FIN, vec![])]);
}

#[test]
fn what_asks_for_nothing_is_answered_by_nothing() {
    let (mut end, mut peer) = asking();
    for kind in [PONG, 0x40, 0x41, 0x80, 0xff] {
        end.feed(&peer.frame(kind, b"12345678"));
        assert_eq!(end.events(), []);
        assert!(!end.session.wants_write());
    }
    end.feed(&peer.frame(DATA, b"message"));
    assert_eq!(end.events(), [whole()]);
}

#[test]
fn control_frames_come_between_parts() {
    let (mut end, mut peer) = asking();
    let frames = [
        peer.frame(PARTIAL, b"one"),
        peer.frame(PING, b"aaaaaaaa"),
        peer.frame(PARTIAL, b"two"),
        peer.frame(0x7f, b"anything"),
        peer.frame(DATA, b"three"),
    ];
    end.feed(&frames.concat());
    let mut chunks = Vec::new();
    while let Some(event) = end.poll().unwrap() {
        chunks.push((event, end.chunk().to_vec()));
        end.consume();
    }
    let event = |first, remaining| Event::Chunk { first, remaining };
    assert_eq!(
        chunks,
        [
            (event(true, Remaining::More), b"one".to_vec()),
            (event(false, Remaining::More), b"two".to_vec()),
            (event(false, Remaining::End), b"three".to_vec()),
        ]
    );
    assert_eq!(says(&mut peer, &mut end), [pong(b"aaaaaaaa")]);
}

#[test]
fn a_ping_behind_the_end_of_messages_is_answered() {
    let (mut end, mut peer) = asking();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(end.events(), []);
    assert_eq!(says(&mut peer, &mut end), [pong(b"aaaaaaaa")]);

    let (mut end, mut peer) = asking();
    end.feed(&[peer.frame(FIN, b""), peer.frame(PING, b"aaaaaaaa")].concat());
    assert_eq!(end.events(), [Event::PeerFinished]);
    assert_eq!(says(&mut peer, &mut end), [pong(b"aaaaaaaa")]);
}

#[test]
fn behind_both_fins_no_sign_of_life_is_owed() {
    let (mut end, mut peer) = asking();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.feed(&[peer.frame(PING, b"aaaaaaaa"), peer.frame(FIN, b"")].concat());
    assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
    assert_eq!(end.sent(), b"");
    assert!(end.session.wants_shutdown() && end.session.is_done());
}

#[test]
fn a_sign_of_life_that_is_dropped_half_sent_leaves_no_deadline_behind() {
    let (mut end, mut peer) = asking();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(end.events(), []);
    assert_eq!(end.transmit(5).len(), 5);
    end.feed(&peer.frame(FIN, b""));
    assert_eq!(end.poll(), Ok(Some(Event::PeerFinished)));
    end.session.abort(CloseReason::Application, end.now);
    assert_eq!(end.sent(), b"");
    assert!(end.session.is_done());
    assert_eq!(end.timeout(), None);
}

#[test]
fn control_frames_need_no_lease_to_leave() {
    let (mut end, mut peer) = asking();
    end.pools.send.dry.set(true);
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(end.events(), []);
    assert_eq!(says(&mut peer, &mut end), [pong(b"aaaaaaaa")]);
    end.at(15_000_000);
    assert_eq!(says(&mut peer, &mut end)[0].0, PING);
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.session.abort(CloseReason::Application, end.now);
    assert_eq!(says(&mut peer, &mut end), [(0x05, vec![3])]);
    assert_eq!(end.pools.held(), (0, 0, 0));
}

/// A turn of a driver whose transport has nothing to read.
fn idle_turn(end: &mut End) {
    assert_eq!(end.events(), []);
    end.sent();
    if !end.session.recv_space().is_empty() {
        end.session.handle_received(0, end.now);
    }
}

#[test]
fn an_idle_sealed_session_holds_no_lease() {
    let (mut end, mut peer) = asking();
    assert_eq!(end.pools.held(), (0, 0, 0));
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(end.pools.held(), (0, 1, 0));
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.send(b"message").unwrap();
    assert_eq!(end.pools.held(), (0, 0, 1));
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.feed(&peer.frame(DATA, b"message"));
    assert_eq!(end.events(), [whole()]);
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 1, 0), "a part is at hand");
    end.consume();
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 0, 0));
    // Half a header, too, waits without one.
    let bytes = peer.frame(DATA, b"message");
    end.feed(&bytes[..3]);
    idle_turn(&mut end);
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.feed(&bytes[3..]);
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), b"message");
}

#[test]
fn a_frame_longer_than_a_part_comes_in_parts_that_can_be_sent_on() {
    let body: Vec<u8> = (0..PART as u8).collect();
    for (kind, last) in [(DATA, Remaining::End), (PARTIAL, Remaining::More)] {
        let end = End::new(&client(), Role::Client, RECEIVE, 121);
        let (mut end, mut peer) = against_with(end, &server(), 4096);
        assert_eq!(end.session.split().1.max_chunk(), 100);
        end.feed(&peer.frame(kind, &body));
        for (first, chunk, left) in [(true, &body[..100], 139), (false, &body[100..200], 39)] {
            let remaining = if kind == DATA { Remaining::Bytes(left) } else { Remaining::More };
            assert_eq!(end.events(), [Event::Chunk { first, remaining }]);
            assert_eq!(end.chunk(), chunk);
            assert!(!end.session.is_idle());
            let chunk = chunk.to_vec();
            end.send_chunk(&chunk, remaining).unwrap();
            assert_eq!(says(&mut peer, &mut end), [(PARTIAL, chunk)]);
            end.consume();
            // Between its parts nothing is lost by a read of nothing.
            end.offer(b"");
        }
        assert_eq!(end.events(), [Event::Chunk { first: false, remaining: last }]);
        assert_eq!(end.chunk(), &body[200..]);
        end.consume();
        assert!(!end.session.is_idle(), "what was sent has no end");
        end.feed(&peer.frame(DATA, b"next"));
        let first = kind == DATA;
        assert_eq!(end.events(), [Event::Chunk { first, remaining: Remaining::End }]);
        assert_eq!(end.chunk(), b"next");
    }
}

#[test]
fn a_part_is_as_long_as_the_peer_takes_and_the_buffers_hold() {
    for (max_frame, receive, send, max) in [
        (256, RECEIVE, SEND, 256 - 17),
        (300, RECEIVE, SEND, 300 - 17),
        (4096, RECEIVE, SEND, SEND - 21),
        (4096, 4096, 64, 64 - 21),
    ] {
        let mut end = End::new(&client(), Role::Client, receive, send);
        assert_eq!(end.session.split().1.max_chunk(), 0, "it is not known yet");
        let (mut end, mut peer) = against_with(end, &server(), max_frame);
        assert_eq!(end.session.split().1.max_chunk(), max);
        assert_eq!(end.send(&vec![7; max + 1]), Err(SendError::TooLong { max }));
        end.send(&vec![7; max]).unwrap();
        assert_eq!(says(&mut peer, &mut end), [(DATA, vec![7; max])]);
    }
}

#[test]
fn no_part_is_longer_than_what_can_be_sent_back() {
    let end = End::new(&client(), Role::Client, 1000, 1000);
    let (mut end, mut peer) = against_with(end, &server(), 256);
    end.feed(&peer.frame(DATA, &[7; 400]));
    for (first, len, remaining) in
        [(true, PART, Remaining::Bytes(161)), (false, 161, Remaining::End)]
    {
        assert_eq!(end.events(), [Event::Chunk { first, remaining }]);
        assert_eq!(end.chunk(), vec![7; len]);
        end.consume();
    }
}

#[test]
fn the_longest_frame_that_we_take_fits_our_buffer_and_our_limit() {
    for (receive, limit, longest) in [
        (260, 16 << 20, 256),
        (1000, 16 << 20, 996),
        (1000, 500, 500),
        (1000, 256, 256),
        // None may say that it takes less.
        (1000, 9, 256),
    ] {
        let end = End::new(&client().with_max_frame(limit), Role::Client, receive, 4096);
        let (mut end, mut peer) = against_with(end, &server(), 4096);
        end.feed(&peer.frame(DATA, &vec![7; longest - 17]));
        assert_eq!(end.events(), [whole()]);
        end.consume();
        let frame = peer.frame(DATA, &vec![7; longest - 16]);
        end.offer(&frame);
        assert_eq!(end.error(), Error::FrameTooLong { len: longest as u64 + 1 });
    }
}

#[test]
fn inside_tls_frames_go_without_tags_where_both_ends_allow_it() {
    let end =
        End::sealed(&sealed(mutual("c", 1).with_channel_binding().without_tags()), Role::Client);
    let peer = sealed(mutual("s", 2).with_channel_binding().without_tags());
    let (mut end, mut peer) = against_with(end, &peer, 256);
    assert_eq!(end.session.split().1.max_chunk(), 255);
    end.send(b"one").unwrap();
    assert_eq!(end.sent(), b"\0\0\0\x04\0one");
    end.finish();
    assert_eq!(end.sent(), b"\0\0\0\x01\x04");
    end.feed(&[peer.frame(DATA, b"two"), peer.frame(PING, b"aaaaaaaa")].concat());
    assert_eq!(end.events(), [whole()]);
    assert_eq!(end.chunk(), b"two");
    end.consume();
    assert_eq!(end.events(), []);
    assert_eq!(end.sent(), b"\0\0\0\x09\x02aaaaaaaa");
}

#[test]
fn frames_leave_as_they_were_sent() {
    let (mut client, mut server) = established(&client(), &server());
    client.send(b"").unwrap();
    client.send_chunk(b"", Remaining::More).unwrap();
    client.send_chunk(b"be", Remaining::Bytes(6)).unwrap();
    client.send_chunk(b"gun ", Remaining::More).unwrap();
    client.session.split().1.send_space(2, Remaining::End).unwrap().copy_from_slice(b"no");
    let (_, mut outbox) = client.session.split();
    outbox.send_space(2, Remaining::End).unwrap().copy_from_slice(b"do");
    outbox.commit();
    server.feed(&client.sent());
    let mut heard = Vec::new();
    while let Some(event) = server.poll().unwrap() {
        heard.push((event, server.chunk().to_vec()));
        server.consume();
    }
    let event = |first, remaining| Event::Chunk { first, remaining };
    assert_eq!(
        heard,
        [
            (whole(), vec![]),
            (event(true, Remaining::More), b"be".to_vec()),
            (event(false, Remaining::More), b"gun ".to_vec()),
            (event(false, Remaining::End), b"do".to_vec()),
        ]
    );
}
