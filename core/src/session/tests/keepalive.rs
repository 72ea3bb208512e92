//! Heartbeats, and the detection of a silent peer.

use super::pair::*;
use super::scripted_peer::*;
use super::*;

const HEARTBEAT: u64 = 1_000_000;
const PEER_TIMEOUT: u64 = 2 * HEARTBEAT + 5_000_000;

const SILENT: Error = Error::TimedOut(TimedOut::Peer);

/// A server that announces a heartbeat.
fn heartbeat_server() -> Config {
    sealed(mutual("server", 2).with_heartbeat(Duration::from_micros(HEARTBEAT)))
}

/// A client of a server that announces a heartbeat.
fn client_of_heartbeat_server() -> (Endpoint, ScriptedPeer) {
    with_scripted_peer(&client(), Role::Client, &heartbeat_server())
}

#[test]
fn half_closed_peer_is_not_timed_out() {
    for polled_first in [true, false] {
        let (mut endpoint, mut peer) = client_of_heartbeat_server();
        endpoint.feed(&peer.frame(FIN, b""));
        if polled_first {
            assert_eq!(endpoint.events(), [Event::PeerFinished]);
            endpoint.eof();
        } else {
            endpoint.eof();
            assert_eq!(endpoint.events(), [Event::PeerFinished]);
        }
        for n in 1..100 {
            endpoint.advance_to(n * HEARTBEAT);
            assert_eq!(endpoint.events(), []);
            assert_eq!(peer.receive_from(&mut endpoint).len(), 1, "our own heartbeat continues");
        }
    }
}

/// Transmits all pending frames, which must be PINGs; returns their number.
fn pings(peer: &mut ScriptedPeer, endpoint: &mut Endpoint) -> usize {
    let frames = peer.receive_from(endpoint);
    assert!(frames.iter().all(|(kind, token)| *kind == PING && token.len() == 8), "{frames:?}");
    frames.len()
}

#[test]
fn idle_session_pings_every_heartbeat() {
    for role in [Role::Client, Role::Server] {
        let (mut endpoint, mut peer) = match role {
            Role::Client => client_of_heartbeat_server(),
            Role::Server => with_scripted_peer(&heartbeat_server(), role, &client()),
        };
        let mut tokens = Vec::new();
        for n in 1..=5 {
            assert_eq!(endpoint.timeout(), Some(n * HEARTBEAT));
            endpoint.advance_to(n * HEARTBEAT - 1);
            assert!(!endpoint.session.wants_write());
            endpoint.advance_to(n * HEARTBEAT);
            assert_eq!(endpoint.events(), []);
            assert!(endpoint.session.wants_write() && !endpoint.session.is_idle());
            let frames = peer.receive_from(&mut endpoint);
            assert_eq!((frames.len(), frames[0].0), (1, PING));
            assert!(!tokens.contains(&frames[0].1), "each token is new");
            tokens.push(frames[0].1.clone());
            assert!(!endpoint.session.wants_write());
        }
    }
}

#[test]
fn any_transmitted_byte_postpones_the_next_ping() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.advance_to(HEARTBEAT - 1);
    endpoint.send(b"message").unwrap();
    assert_eq!(endpoint.timeout(), Some(HEARTBEAT), "nothing is transmitted yet");
    let mut sent = endpoint.transmit(1);
    assert_eq!(endpoint.timeout(), Some(2 * HEARTBEAT - 1), "one byte is transmitted");
    endpoint.advance_to(HEARTBEAT);
    sent.extend(endpoint.transmit_all());
    assert_eq!(peer.decode(&sent), [(DATA, b"message".to_vec())]);
    assert_eq!(endpoint.timeout(), Some(2 * HEARTBEAT));
    endpoint.advance_to(2 * HEARTBEAT);
    assert_eq!(pings(&mut peer, &mut endpoint), 1);
    assert_eq!(endpoint.timeout(), Some(3 * HEARTBEAT));
    // Receiving does not postpone our own PING.
    endpoint.feed(&peer.frame(DATA, b"message"));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.consume();
    assert_eq!(endpoint.timeout(), Some(3 * HEARTBEAT));
}

#[test]
fn no_ping_is_queued_while_output_is_pending() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.send(b"waiting").unwrap();
    endpoint.advance_to(HEARTBEAT);
    assert_eq!(endpoint.timeout(), Some(2 * HEARTBEAT));
    assert_eq!(peer.receive_from(&mut endpoint), [(DATA, b"waiting".to_vec())]);
    endpoint.feed(&peer.frame(PING, b"12345678"));
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(2 * HEARTBEAT);
    assert_eq!(peer.receive_from(&mut endpoint), [(PONG, b"12345678".to_vec())]);
    // No second PING is queued behind a pending one.
    endpoint.advance_to(3 * HEARTBEAT);
    endpoint.advance_to(4 * HEARTBEAT);
    assert_eq!(endpoint.transmit(1).len(), 1);
    endpoint.advance_to(5 * HEARTBEAT);
    assert_eq!(endpoint.transmit_all().len(), 28);
}

#[test]
fn silent_peer_times_out_and_is_sent_close() {
    for role in [Role::Client, Role::Server] {
        let (mut endpoint, mut peer) = match role {
            Role::Client => client_of_heartbeat_server(),
            Role::Server => with_scripted_peer(&heartbeat_server(), role, &client()),
        };
        for n in 1..=PEER_TIMEOUT / HEARTBEAT - 1 {
            endpoint.advance_to(n * HEARTBEAT);
            assert_eq!(pings(&mut peer, &mut endpoint), 1);
            assert_eq!(endpoint.timeout(), Some((n + 1) * HEARTBEAT));
        }
        endpoint.advance_to(PEER_TIMEOUT - 1);
        assert_eq!(endpoint.events(), []);
        endpoint.advance_to(PEER_TIMEOUT);
        assert_eq!(endpoint.error(), SILENT);
        assert_eq!(peer.receive_from(&mut endpoint), [(CLOSE, vec![2])]);
        assert!(endpoint.session.is_done());
        assert_eq!(endpoint.timeout(), None);
    }
}

/// An endpoint at the moment of its peer timeout that has received `frames` just before.
fn after_receiving(frames: impl Fn(&mut ScriptedPeer) -> Vec<u8>) -> Endpoint {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.advance_to(PEER_TIMEOUT - 1);
    let bytes = frames(&mut peer);
    endpoint.feed(&bytes);
    endpoint.events();
    endpoint.consume();
    endpoint.events();
    endpoint.advance_to(PEER_TIMEOUT);
    endpoint
}

#[test]
fn only_whole_frames_reset_the_peer_timer() {
    for kind in [DATA, PING, PONG, PARTIAL, 0x40, 0xff] {
        let mut endpoint = after_receiving(|peer| peer.frame(kind, b"12345678"));
        assert_eq!(endpoint.events(), [], "{kind}");
        endpoint.transmit_all();
        endpoint.advance_to(2 * PEER_TIMEOUT - 2);
        assert_eq!(endpoint.events(), []);
        endpoint.advance_to(2 * PEER_TIMEOUT - 1);
        assert_eq!(endpoint.error(), SILENT);
    }
    let mut endpoint = after_receiving(|peer| peer.frame(FIN, b""));
    assert_eq!(endpoint.events(), []);
    let mut endpoint = after_receiving(|peer| peer.frame(DATA, b"12345678")[..28].to_vec());
    assert_eq!(endpoint.error(), SILENT);
    let mut endpoint = after_receiving(|_| Vec::new());
    assert_eq!(endpoint.error(), SILENT);
}

#[test]
fn empty_read_does_not_reset_the_peer_timer() {
    let (mut endpoint, _) = client_of_heartbeat_server();
    for n in 1..PEER_TIMEOUT / HEARTBEAT {
        endpoint.advance_to(n * HEARTBEAT);
        endpoint.transmit_all();
        endpoint.offer(b"");
        assert_eq!(endpoint.events(), []);
    }
    endpoint.advance_to(PEER_TIMEOUT);
    assert_eq!(endpoint.error(), SILENT);
}

#[test]
fn peer_timer_stops_while_a_chunk_is_pending() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.feed(&peer.frame(DATA, &[7; MAX_CHUNK]));
    assert_eq!(endpoint.events(), [whole_message()]);
    for n in 1..100 {
        endpoint.advance_to(n * HEARTBEAT);
        assert_eq!(endpoint.events(), []);
        assert_eq!(pings(&mut peer, &mut endpoint), 1, "our own heartbeat continues");
        assert_eq!(endpoint.offer(b"x"), 0);
    }
    endpoint.consume();
    endpoint.advance_to(99 * HEARTBEAT + PEER_TIMEOUT - 1);
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(99 * HEARTBEAT + PEER_TIMEOUT);
    assert_eq!(endpoint.error(), SILENT);
}

#[test]
fn bytes_behind_a_pending_chunk_start_no_timer() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.feed(&peer.frame(DATA, b"first"));
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.feed(&peer.frame(DATA, b"second"));
    endpoint.advance_to(PEER_TIMEOUT);
    endpoint.transmit_all();
    assert_eq!(endpoint.events(), []);
    endpoint.consume();
    assert_eq!(endpoint.events(), [whole_message()]);
}

#[test]
fn peer_timer_stops_while_awaiting_a_buffer() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.pools.receive.exhausted.set(true);
    for n in 1..100 {
        endpoint.advance_to(n * HEARTBEAT);
        assert_eq!(endpoint.offer(b"x"), 0);
        assert!(endpoint.session.awaiting_buffer());
        assert_eq!(endpoint.events(), []);
        assert_eq!(pings(&mut peer, &mut endpoint), 1);
    }
    endpoint.pools.receive.exhausted.set(false);
    endpoint.offer(b"");
    endpoint.advance_to(99 * HEARTBEAT + PEER_TIMEOUT - 1);
    assert_eq!(endpoint.events(), []);
    endpoint.advance_to(99 * HEARTBEAT + PEER_TIMEOUT);
    assert_eq!(endpoint.error(), SILENT);
}

#[test]
fn zero_heartbeat_disables_the_peer_timer() {
    let silent = sealed(mutual("server", 2).with_heartbeat(Duration::ZERO));
    for (mut endpoint, mut peer) in [
        with_scripted_peer(&client(), Role::Client, &silent),
        with_scripted_peer(&silent, Role::Server, &client()),
    ] {
        assert_eq!(endpoint.timeout(), None);
        endpoint.advance_to(u64::MAX - 1);
        endpoint.feed(&peer.frame(PING, b"12345678"));
        assert_eq!(endpoint.events(), []);
        assert_eq!(peer.receive_from(&mut endpoint), [(PONG, b"12345678".to_vec())]);
        assert_eq!(endpoint.timeout(), None);
    }
}

#[test]
fn no_timer_spins_at_the_maximum_instant() {
    let (mut endpoint, _) = client_of_heartbeat_server();
    endpoint.advance_to(u64::MAX);
    assert_eq!(endpoint.error(), SILENT);
    endpoint.transmit_all();
    assert_eq!(endpoint.timeout(), None);
}

#[test]
fn failed_session_sends_no_more_pings() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.send(b"unread").unwrap();
    endpoint.session.abort(CloseReason::Shutdown, endpoint.now);
    assert_eq!(endpoint.timeout(), None, "the driver has not polled it yet");
    assert_eq!(endpoint.transmit(3).len(), 3);
    assert_eq!(endpoint.timeout(), Some(30_000_000));
    for n in 1..10 {
        endpoint.advance_to(n * HEARTBEAT);
    }
    endpoint.feed(b"");
    peer.frame(PING, b"12345678");
    // The first three bytes are transmitted; the rest of DATA and a CLOSE follow.
    assert_eq!(endpoint.transmit_all().len(), 24 + 22);
    assert!(endpoint.session.is_done());
    assert_eq!(endpoint.timeout(), None);
}

#[test]
fn two_idle_sessions_keep_each_other_alive() {
    let (mut client, mut server) = established(&client(), &heartbeat_server());
    for n in 1..1_000 {
        for endpoint in [&mut client, &mut server] {
            endpoint.advance_to(n * HEARTBEAT);
        }
        let (from_client, from_server) = (client.transmit_all(), server.transmit_all());
        server.feed(&from_client);
        client.feed(&from_server);
        assert_eq!((client.events(), server.events()), (vec![], vec![]));
        let (from_client, from_server) = (client.transmit_all(), server.transmit_all());
        server.feed(&from_client);
        client.feed(&from_server);
        assert_eq!((client.events(), server.events()), (vec![], vec![]));
        assert!(client.session.is_idle() && server.session.is_idle());
    }
}

#[test]
fn closed_session_has_no_timeout() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.finish();
    assert_eq!(peer.receive_from(&mut endpoint), [(FIN, vec![])]);
    endpoint.feed(&peer.frame(FIN, b""));
    assert_eq!(endpoint.events(), [Event::PeerFinished, Event::Closed]);
    assert_eq!(endpoint.offer(b"behind the end"), 0);
    assert_eq!(endpoint.pools.held(), (0, 0, 0));
    endpoint.session.handle_received(0, endpoint.now);
    endpoint.consume();
    assert_eq!(endpoint.timeout(), None);
    endpoint.advance_to(PEER_TIMEOUT);
    assert_eq!((endpoint.events(), endpoint.transmit_all()), (vec![], vec![]));
}

#[test]
fn peer_that_finishes_behind_a_chunk_is_not_timed_out() {
    let (mut endpoint, mut peer) = client_of_heartbeat_server();
    endpoint.feed(&[peer.frame(DATA, b"last"), peer.frame(FIN, b"")].concat());
    assert_eq!(endpoint.events(), [whole_message()]);
    endpoint.eof();
    endpoint.consume();
    assert_eq!(endpoint.timeout(), Some(HEARTBEAT), "the deadline of our own PING");
    assert_eq!(endpoint.events(), [Event::PeerFinished]);
    for n in 1..10 {
        endpoint.advance_to(n * HEARTBEAT);
        assert_eq!(pings(&mut peer, &mut endpoint), 1);
        assert_eq!(endpoint.events(), []);
    }
}
