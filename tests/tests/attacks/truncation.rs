//! A session cut off after every byte.

use countersign::{Error, Event, FrameError, Protocol, Role, Truncated};

use crate::ends::{End, Who, honest, introduce};

/// A whole session, and what went over its wire: upwards and downwards.
struct Recorded {
    up: Vec<u8>,
    down: Vec<u8>,
    /// Length of the client's part of the handshake, and of the server's.
    introduced: (usize, usize),
}

const UP: [&[u8]; 3] = [b"hello", b"wor", b"ld"];
const DOWN: [&[u8]; 2] = [b"HELLO", b"WORLD"];

fn talk(end: &mut End) -> Vec<u8> {
    match end.session.role() {
        Role::Client => [end.say(UP[0]), end.say_part(UP[1]), end.say(UP[2])].concat(),
        Role::Server => [end.say(DOWN[0]), end.say(DOWN[1])].concat(),
    }
}

fn record() -> Recorded {
    let (mut client, mut server) = (Who::client().start(), Who::server().start());
    let handshake = introduce(&mut client, &mut server);
    let (mut up, mut down) = (handshake.m2, [handshake.m1, handshake.m3].concat());
    let introduced = (up.len(), down.len());
    up.extend(talk(&mut client));
    up.extend(client.finish());
    server.feed(&up[introduced.0..]);
    down.extend(talk(&mut server));
    down.extend(server.finish());
    client.feed(&down[introduced.1..]);
    for (end, heard) in [(&client, &DOWN[..]), (&server, &UP[..])] {
        assert!(end.is_closed() && end.session.wants_shutdown());
        assert_eq!(end.heard, heard);
    }
    Recorded { up, down, introduced }
}

/// Cuts `stream`, of which the handshake is so long, off after each of its bytes.
fn cut(who: &Who, stream: &[u8], introduced: usize, whole: &[&[u8]]) {
    for end_of_stream in 0..=stream.len() {
        let mut end = who.start();
        end.feed(&stream[..end_of_stream]);
        // Nothing more comes from us either, so that but for the cut it would be over.
        if end.is_established() {
            end.finish();
        }
        end.eof();
        end.sent();
        assert!(whole.starts_with(&end.heard.iter().map(|part| &part[..]).collect::<Vec<_>>()));
        assert!(end.session.is_done());
        if end_of_stream == stream.len() {
            assert_eq!(end.error, None);
            assert!(end.is_closed());
            assert_eq!(end.heard, whole);
            continue;
        }
        assert!(!end.is_closed(), "byte {end_of_stream}");
        assert!(!end.events.contains(&Event::PeerFinished), "byte {end_of_stream}");
        let Some(Error::Truncated(what)) = end.error else {
            panic!("byte {end_of_stream}: {:?}", end.error)
        };
        assert_eq!(end_of_stream < introduced, what == Truncated::Handshake);
        assert_eq!(end_of_stream < introduced, !end.is_established());
    }
}

#[test]
fn a_server_sees_that_its_client_was_cut_off_after_whichever_byte() {
    let recorded = record();
    cut(&Who::server(), &recorded.up, recorded.introduced.0, &UP);
}

#[test]
fn a_client_sees_that_its_server_was_cut_off_after_whichever_byte() {
    let recorded = record();
    cut(&Who::client(), &recorded.down, recorded.introduced.1, &DOWN);
}

#[test]
fn a_message_cut_off_by_fin_is_an_error_and_not_the_end() {
    for between_parts in [&b""[..], b"more of it"] {
        let (mut client, mut server, _) = honest();
        let mut stream = client.say_part(b"pay 1");
        if !between_parts.is_empty() {
            stream.extend(client.say_part(between_parts));
        }
        stream.extend(client.finish());
        server.feed(&stream);
        assert_eq!(server.error, Some(Error::Frame(FrameError::Order)));
        assert!(!server.events.contains(&Event::PeerFinished));
    }
}

/// Cut off with the connection, it was not cut off by the peer.
#[test]
fn the_end_of_the_stream_says_whether_a_message_was_cut_off() {
    let (mut client, mut server, _) = honest();
    let (part, rest) = (client.say_part(b"pay 1"), client.say(b"00"));
    server.feed(&part);
    server.eof();
    assert_eq!(server.error, Some(Error::Truncated(Truncated::Message)));
    let (_, mut server, _) = honest();
    server.feed(&[part, rest].concat());
    server.eof();
    assert_eq!(server.error, Some(Error::Truncated(Truncated::Stream)));
}
