//! A session truncated after every byte.

use countersign::{Error, Event, FrameError, Protocol, Role, Truncated};

use crate::endpoint::{Endpoint, established, run_handshake};
use crate::party::Party;

/// A complete session: the bytes from the client and those from the server.
struct Recording {
    up: Vec<u8>,
    down: Vec<u8>,
    /// Length of the handshake in `up` and in `down`.
    handshake_len: (usize, usize),
}

const UP: [&[u8]; 3] = [b"hello", b"wor", b"ld"];
const DOWN: [&[u8]; 2] = [b"HELLO", b"WORLD"];

fn send_messages(end: &mut Endpoint) -> Vec<u8> {
    match end.session.role() {
        Role::Client => [end.send(UP[0]), end.send_chunk(UP[1]), end.send(UP[2])].concat(),
        Role::Server => [end.send(DOWN[0]), end.send(DOWN[1])].concat(),
    }
}

fn record() -> Recording {
    let (mut client, mut server) = (Party::client().start(), Party::server().start());
    let handshake = run_handshake(&mut client, &mut server);
    let (mut up, mut down) = (handshake.m2, [handshake.m1, handshake.m3].concat());
    let handshake_len = (up.len(), down.len());
    up.extend(send_messages(&mut client));
    up.extend(client.finish());
    server.feed(&up[handshake_len.0..]);
    down.extend(send_messages(&mut server));
    down.extend(server.finish());
    client.feed(&down[handshake_len.1..]);
    for (end, received) in [(&client, &DOWN[..]), (&server, &UP[..])] {
        assert!(end.is_closed() && end.session.wants_shutdown());
        assert_eq!(end.received, received);
    }
    Recording { up, down, handshake_len }
}

/// Truncates `stream` after each of its bytes. Its handshake has `handshake_len` bytes, and all of
/// it delivers `whole`.
fn truncate_everywhere(party: &Party, stream: &[u8], handshake_len: usize, whole: &[&[u8]]) {
    for end_of_stream in 0..=stream.len() {
        let mut end = party.start();
        end.feed(&stream[..end_of_stream]);
        // Our side finishes too, so that only the truncation keeps the session from closing.
        if end.is_established() {
            end.finish();
        }
        end.eof();
        end.output();
        assert!(
            whole.starts_with(&end.received.iter().map(|chunk| &chunk[..]).collect::<Vec<_>>())
        );
        assert!(end.session.is_done());
        if end_of_stream == stream.len() {
            assert_eq!(end.error, None);
            assert!(end.is_closed());
            assert_eq!(end.received, whole);
            continue;
        }
        assert!(!end.is_closed(), "byte {end_of_stream}");
        assert!(!end.events.contains(&Event::PeerFinished), "byte {end_of_stream}");
        let Some(Error::Truncated(what)) = end.error else {
            panic!("byte {end_of_stream}: {:?}", end.error)
        };
        assert_eq!(end_of_stream < handshake_len, what == Truncated::Handshake);
        assert_eq!(end_of_stream < handshake_len, !end.is_established());
    }
}

#[test]
fn server_detects_truncation_after_every_byte() {
    let recorded = record();
    truncate_everywhere(&Party::server(), &recorded.up, recorded.handshake_len.0, &UP);
}

#[test]
fn client_detects_truncation_after_every_byte() {
    let recorded = record();
    truncate_everywhere(&Party::client(), &recorded.down, recorded.handshake_len.1, &DOWN);
}

#[test]
fn fin_within_a_message_is_an_error() {
    for more_chunks in [&b""[..], b"more of it"] {
        let (mut client, mut server, _) = established();
        let mut stream = client.send_chunk(b"pay 1");
        if !more_chunks.is_empty() {
            stream.extend(client.send_chunk(more_chunks));
        }
        stream.extend(client.finish());
        server.feed(&stream);
        assert_eq!(server.error, Some(Error::Frame(FrameError::Order)));
        assert!(!server.events.contains(&Event::PeerFinished));
    }
}

/// The connection was lost; the peer did not end the message.
#[test]
fn eof_within_a_message_differs_from_eof_between_messages() {
    let (mut client, mut server, _) = established();
    let (chunk, rest) = (client.send_chunk(b"pay 1"), client.send(b"00"));
    server.feed(&chunk);
    server.eof();
    assert_eq!(server.error, Some(Error::Truncated(Truncated::Message)));
    let (_, mut server, _) = established();
    server.feed(&[chunk, rest].concat());
    server.eof();
    assert_eq!(server.error, Some(Error::Truncated(Truncated::Stream)));
}
