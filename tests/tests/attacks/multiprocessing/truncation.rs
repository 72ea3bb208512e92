//! A session truncated after every byte.

use countersign::{Error, Event, Protocol, Role, Truncated};

use super::{client, established, received_by, server};

const MESSAGES: [&[u8]; 3] = [b"hello", b"", b"world"];

/// Returns the offsets in the stream between two messages.
fn borders(handshake_len: usize) -> Vec<usize> {
    let mut borders = vec![handshake_len];
    for message in MESSAGES {
        borders.push(borders.last().unwrap() + 4 + message.len());
    }
    borders
}

/// A truncated handshake or message is detected. Missing messages are not: nothing in this scheme
/// marks the last one.
#[test]
fn truncation_is_detected_except_between_messages() {
    for role in [Role::Client, Role::Server] {
        let (mut one, mut other, sent) = established();
        let mut stream = received_by(role, &sent);
        let handshake_len = stream.len();
        let speaker = if role == Role::Client { &mut other } else { &mut one };
        MESSAGES.iter().for_each(|message| stream.extend(speaker.send(message)));
        let borders = borders(handshake_len);
        assert_eq!(borders.last(), Some(&stream.len()));
        for cut in 0..=stream.len() {
            let mut end = if role == Role::Client { client(0xa1) } else { server(0xb1) };
            end.feed(&stream[..cut]);
            assert_eq!(end.is_established(), cut >= handshake_len, "{role:?}, byte {cut}");
            if end.is_established() {
                end.finish();
            }
            end.eof();
            end.output();
            assert!(end.session.is_done());
            let whole = borders.iter().position(|border| *border == cut);
            let expected = match whole {
                Some(_) => None,
                None if cut < handshake_len => Some(Error::Truncated(Truncated::Handshake)),
                None => Some(Error::Truncated(Truncated::Message)),
            };
            assert_eq!(end.error, expected, "{role:?}, byte {cut}");
            assert_eq!(end.is_closed(), whole.is_some());
            assert_eq!(end.events.contains(&Event::PeerFinished), whole.is_some());
            assert!(
                MESSAGES[..].starts_with(&end.received.iter().map(|m| &m[..]).collect::<Vec<_>>())
            );
            assert!(whole.is_none_or(|messages| end.received.len() == messages));
        }
    }
}
