//! A session cut off after every byte.

use countersign::{Error, Event, Protocol, Role, Truncated};

use super::{client, heard_by, honest, server};

const SAID: [&[u8]; 3] = [b"hello", b"", b"world"];

/// Where `stream` can end between two messages.
fn borders(introduced: usize) -> Vec<usize> {
    let mut borders = vec![introduced];
    for message in SAID {
        borders.push(borders.last().unwrap() + 4 + message.len());
    }
    borders
}

/// A handshake or a message that was cut off is noticed; that there were more messages is not, for
/// nothing in this scheme says that one was the last.
#[test]
fn either_end_sees_what_was_cut_off_but_for_whole_messages() {
    for role in [Role::Client, Role::Server] {
        let (mut one, mut other, said) = honest();
        let mut stream = heard_by(role, &said);
        let introduced = stream.len();
        let speaker = if role == Role::Client { &mut other } else { &mut one };
        SAID.iter().for_each(|message| stream.extend(speaker.say(message)));
        let borders = borders(introduced);
        assert_eq!(borders.last(), Some(&stream.len()));
        for cut in 0..=stream.len() {
            let mut end = if role == Role::Client { client(0xa1) } else { server(0xb1) };
            end.feed(&stream[..cut]);
            assert_eq!(end.is_established(), cut >= introduced, "{role:?}, byte {cut}");
            if end.is_established() {
                end.finish();
            }
            end.eof();
            end.sent();
            assert!(end.session.is_done());
            let whole = borders.iter().position(|border| *border == cut);
            let expected = match whole {
                Some(_) => None,
                None if cut < introduced => Some(Error::Truncated(Truncated::Handshake)),
                None => Some(Error::Truncated(Truncated::Message)),
            };
            assert_eq!(end.error, expected, "{role:?}, byte {cut}");
            assert_eq!(end.is_closed(), whole.is_some());
            assert_eq!(end.events.contains(&Event::PeerFinished), whole.is_some());
            assert!(SAID[..].starts_with(&end.heard.iter().map(|m| &m[..]).collect::<Vec<_>>()));
            assert!(whole.is_none_or(|messages| end.heard.len() == messages));
        }
    }
}
