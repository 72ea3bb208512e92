//! Control frames, their order among messages, and the sizes of frames and chunks.

use super::pair::*;
use super::scripted_peer::*;
use super::*;

/// A client that is established with a scripted server.
fn connected_client() -> (Endpoint, ScriptedPeer) {
    with_scripted_peer(&client(), Role::Client, &server())
}

fn pong(token: &[u8; 8]) -> (u8, Vec<u8>) {
    (PONG, token.to_vec())
}

#[test]
fn only_the_newest_ping_is_answered() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert!(!endpoint.session.wants_write(), "the PING is parsed only by `poll_event`");
    assert_eq!(endpoint.events(), []);
    assert!(endpoint.session.wants_write() && !endpoint.session.is_idle());
    assert_eq!(peer.receive_from(&mut endpoint), [pong(b"aaaaaaaa")]);
    assert!(!endpoint.session.wants_write() && endpoint.session.is_idle());
    assert_eq!(endpoint.transmit_all(), b"");

    let pings = [peer.frame(PING, b"bbbbbbbb"), peer.frame(PING, b"cccccccc")].concat();
    endpoint.feed(&pings);
    assert_eq!(endpoint.events(), []);
    endpoint.feed(&peer.frame(PING, b"dddddddd"));
    assert_eq!(endpoint.events(), []);
    assert_eq!(peer.receive_from(&mut endpoint), [pong(b"dddddddd")]);
}

#[test]
fn started_pong_is_finished_before_the_next() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(endpoint.events(), []);
    let mut sent = endpoint.transmit(1);
    endpoint.feed(&[peer.frame(PING, b"bbbbbbbb"), peer.frame(PING, b"cccccccc")].concat());
    assert_eq!(endpoint.events(), []);
    endpoint.send(b"message").unwrap();
    sent.extend(endpoint.transmit_all());
    let frames = [pong(b"aaaaaaaa"), (DATA, b"message".to_vec()), pong(b"cccccccc")];
    assert_eq!(peer.decode(&sent), frames);
}

#[test]
fn started_data_frame_is_not_interrupted() {
    for cut in 1..28 {
        let (mut endpoint, mut peer) = connected_client();
        endpoint.send(b"message").unwrap();
        let mut sent = endpoint.transmit(cut);
        endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
        assert_eq!(endpoint.events(), []);
        endpoint.finish();
        sent.extend(endpoint.transmit_all());
        let frames = [(DATA, b"message".to_vec()), pong(b"aaaaaaaa"), (FIN, vec![])];
        assert_eq!(peer.decode(&sent), frames, "{cut}");
    }
}

#[test]
fn bytewise_transmit_yields_the_same_frames() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(endpoint.events(), []);
    endpoint.send(b"one").unwrap();
    endpoint.finish();
    let mut sent = Vec::new();
    while endpoint.session.wants_write() {
        sent.push(endpoint.transmit(1)[0]);
        assert!(sent.len() < 100, "output does not end");
    }
    assert_eq!(peer.decode(&sent), [(DATA, b"one".to_vec()), pong(b"aaaaaaaa"), (FIN, vec![])]);
}

#[test]
fn pong_and_ignored_types_get_no_answer() {
    let (mut endpoint, mut peer) = connected_client();
    for kind in [PONG, 0x40, 0x41, 0x80, 0xff] {
        endpoint.feed(&peer.frame(kind, b"12345678"));
        assert_eq!(endpoint.events(), []);
        assert!(!endpoint.session.wants_write());
    }
    endpoint.feed(&peer.frame(DATA, b"message"));
    assert_eq!(endpoint.events(), [whole_message()]);
}

#[test]
fn control_frames_may_interleave_with_chunks() {
    let (mut endpoint, mut peer) = connected_client();
    let frames = [
        peer.frame(PARTIAL, b"one"),
        peer.frame(PING, b"aaaaaaaa"),
        peer.frame(PARTIAL, b"two"),
        peer.frame(0x7f, b"ignored"),
        peer.frame(DATA, b"three"),
    ];
    endpoint.feed(&frames.concat());
    let event = |first, remaining| Event::Chunk { first, remaining };
    assert_eq!(
        endpoint.drain_chunks(),
        [
            (event(true, Remaining::More), b"one".to_vec()),
            (event(false, Remaining::More), b"two".to_vec()),
            (event(false, Remaining::End), b"three".to_vec()),
        ]
    );
    assert_eq!(peer.receive_from(&mut endpoint), [pong(b"aaaaaaaa")]);
}

#[test]
fn ping_after_fin_is_answered() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(endpoint.events(), []);
    assert_eq!(peer.receive_from(&mut endpoint), [pong(b"aaaaaaaa")]);

    let (mut endpoint, mut peer) = connected_client();
    endpoint.feed(&[peer.frame(FIN, b""), peer.frame(PING, b"aaaaaaaa")].concat());
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    assert_eq!(peer.receive_from(&mut endpoint), [pong(b"aaaaaaaa")]);
}

#[test]
fn no_pong_is_sent_after_both_fins() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.feed(&[peer.frame(PING, b"aaaaaaaa"), peer.frame(FIN, b"")].concat());
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    assert_eq!(endpoint.transmit_all(), b"");
    assert!(endpoint.session.wants_shutdown() && endpoint.session.is_done());
}

#[test]
fn dropped_partial_pong_leaves_no_deadline() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.transmit(5).len(), 5);
    endpoint.feed(&peer.frame(FIN, b""));
    assert_eq!(endpoint.poll(), Ok(Some(Event::PeerFinished)));
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert_eq!(endpoint.transmit_all(), b"");
    assert!(endpoint.session.is_done());
    assert_eq!(endpoint.timeout(), None);
}

#[test]
fn control_frames_need_no_send_lease() {
    let (mut endpoint, mut peer) = connected_client();
    endpoint.pools.send.exhausted.set(true);
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(endpoint.events(), []);
    assert_eq!(peer.receive_from(&mut endpoint), [pong(b"aaaaaaaa")]);
    endpoint.advance_to(15_000_000);
    assert_eq!(peer.receive_from(&mut endpoint)[0].0, PING);
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.session.abort(CloseReason::Application, endpoint.now);
    assert_eq!(peer.receive_from(&mut endpoint), [(CLOSE, vec![3])]);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
}

#[test]
fn idle_sealed_session_holds_no_lease() {
    let (mut endpoint, mut peer) = connected_client();
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.feed(&peer.frame(PING, b"aaaaaaaa"));
    assert_eq!(endpoint.pools.held(), (0, 1, 0));
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.send(b"message").unwrap();
    assert_eq!(endpoint.pools.held(), (0, 0, 1));
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.feed(&peer.frame(DATA, b"message"));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 1, 0), "a chunk is pending");
    endpoint.consume();
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    // A partial header needs no lease.
    let bytes = peer.frame(DATA, b"message");
    endpoint.feed(&bytes[..3]);
    endpoint.drive_idle();
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.feed(&bytes[3..]);
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), b"message");
}

#[test]
fn long_sealed_frame_is_delivered_in_relayable_chunks() {
    let body: Vec<u8> = (0..MAX_CHUNK as u8).collect();
    for (kind, last) in [(DATA, Remaining::End), (PARTIAL, Remaining::More)] {
        let endpoint = Endpoint::new(&client(), Role::Client, RECEIVE_LEN, 121);
        let (mut endpoint, mut peer) = connect_scripted_peer(endpoint, &server(), 4096);
        assert_eq!(endpoint.session.split().1.max_chunk(), 100);
        endpoint.feed(&peer.frame(kind, &body));
        for (first, chunk, len) in [(true, &body[..100], 139), (false, &body[100..200], 39)] {
            let remaining = if kind == DATA { Remaining::Bytes(len) } else { Remaining::More };
            assert_eq!(endpoint.events(), [Event::Chunk { first, remaining }]);
            assert_eq!(endpoint.chunk(), chunk);
            assert!(!endpoint.session.is_idle());
            let chunk = chunk.to_vec();
            endpoint.send_chunk(&chunk, remaining).unwrap();
            assert_eq!(peer.receive_from(&mut endpoint), [(PARTIAL, chunk)]);
            endpoint.consume();
            // An empty read between chunks loses nothing.
            endpoint.offer(b"");
        }
        assert_eq!(endpoint.events(), [Event::Chunk { first: false, remaining: last }]);
        assert_eq!(endpoint.chunk(), &body[200..]);
        endpoint.consume();
        assert!(!endpoint.session.is_idle(), "the sent message is not complete");
        endpoint.feed(&peer.frame(DATA, b"next"));
        let first = kind == DATA;
        assert_eq!(endpoint.events(), [Event::Chunk { first, remaining: Remaining::End }]);
        assert_eq!(endpoint.chunk(), b"next");
    }
}

#[test]
fn max_chunk_is_bounded_by_peer_and_buffers() {
    for (max_frame, receive, send, max) in [
        (256, RECEIVE_LEN, SEND_LEN, 256 - 17),
        (300, RECEIVE_LEN, SEND_LEN, 300 - 17),
        (4096, RECEIVE_LEN, SEND_LEN, SEND_LEN - 21),
        (4096, 4096, 64, 64 - 21),
    ] {
        let mut endpoint = Endpoint::new(&client(), Role::Client, receive, send);
        assert_eq!(endpoint.session.split().1.max_chunk(), 0, "the limit of the peer is unknown");
        let (mut endpoint, mut peer) = connect_scripted_peer(endpoint, &server(), max_frame);
        assert_eq!(endpoint.session.split().1.max_chunk(), max);
        assert_eq!(endpoint.send(&vec![7; max + 1]), Err(SendError::TooLong { max }));
        endpoint.send(&vec![7; max]).unwrap();
        assert_eq!(peer.receive_from(&mut endpoint), [(DATA, vec![7; max])]);
    }
}

#[test]
fn received_chunks_fit_the_peers_max_frame() {
    let endpoint = Endpoint::new(&client(), Role::Client, 1000, 1000);
    let (mut endpoint, mut peer) = connect_scripted_peer(endpoint, &server(), 256);
    endpoint.feed(&peer.frame(DATA, &[7; 400]));
    for (first, len, remaining) in
        [(true, MAX_CHUNK, Remaining::Bytes(161)), (false, 161, Remaining::End)]
    {
        assert_eq!(endpoint.events(), [Event::Chunk { first, remaining }]);
        assert_eq!(endpoint.chunk(), vec![7; len]);
        endpoint.consume();
    }
}

#[test]
fn accepted_frame_is_bounded_by_buffer_and_max_frame() {
    for (receive, limit, longest) in [
        (260, 16 << 20, 256),
        (1000, 16 << 20, 996),
        (1000, 500, 500),
        (1000, 256, 256),
        // The protocol requires every side to accept 256 bytes.
        (1000, 9, 256),
    ] {
        let endpoint = Endpoint::new(&client().with_max_frame(limit), Role::Client, receive, 4096);
        let (mut endpoint, mut peer) = connect_scripted_peer(endpoint, &server(), 4096);
        endpoint.feed(&peer.frame(DATA, &vec![7; longest - 17]));
        assert_eq!(endpoint.events(), [whole_message()]);
        endpoint.consume();
        let frame = peer.frame(DATA, &vec![7; longest - 16]);
        endpoint.offer(&frame);
        assert_eq!(endpoint.error(), Error::FrameTooLong { len: longest as u64 + 1 });
    }
}

#[test]
fn frames_are_untagged_if_both_sides_allow_it() {
    let endpoint = Endpoint::sealed(
        &sealed(mutual("c", 1).with_channel_binding().without_tags()),
        Role::Client,
    );
    let peer = sealed(mutual("s", 2).with_channel_binding().without_tags());
    let (mut endpoint, mut peer) = connect_scripted_peer(endpoint, &peer, 256);
    assert_eq!(endpoint.session.split().1.max_chunk(), 255);
    endpoint.send(b"one").unwrap();
    assert_eq!(endpoint.transmit_all(), b"\0\0\0\x04\0one");
    endpoint.finish();
    assert_eq!(endpoint.transmit_all(), b"\0\0\0\x01\x04");
    endpoint.feed(&[peer.frame(DATA, b"two"), peer.frame(PING, b"aaaaaaaa")].concat());
    assert_eq!(endpoint.events(), [whole_message()]);
    assert_eq!(endpoint.chunk(), b"two");
    endpoint.consume();
    assert_eq!(endpoint.events(), []);
    assert_eq!(endpoint.transmit_all(), b"\0\0\0\x09\x02aaaaaaaa");
}

#[test]
fn sent_chunks_arrive_with_the_same_boundaries() {
    let (mut client, mut server) = established(&client(), &server());
    client.send(b"").unwrap();
    client.send_chunk(b"", Remaining::More).unwrap();
    client.send_chunk(b"be", Remaining::Bytes(6)).unwrap();
    client.send_chunk(b"gun ", Remaining::More).unwrap();
    let mut outbox = client.session.split().1;
    outbox.send_with(2, Remaining::End, |space| space.copy_from_slice(b"do")).unwrap();
    server.feed(&client.transmit_all());
    let event = |first, remaining| Event::Chunk { first, remaining };
    assert_eq!(
        server.drain_chunks(),
        [
            (whole_message(), vec![]),
            (event(true, Remaining::More), b"be".to_vec()),
            (event(false, Remaining::More), b"gun ".to_vec()),
            (event(false, Remaining::End), b"do".to_vec()),
        ]
    );
}
