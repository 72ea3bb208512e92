//! What was said once, said again, elsewhere, or to whom it came from.

use countersign::{Alert, Error, FrameError, Role, Truncated};

use crate::ends::{End, Who, alert, honest, introduce, pair};

const TAG: Option<Error> = Some(Error::Frame(FrameError::Tag));

#[test]
fn an_m2_is_good_for_the_connection_whose_m1_it_answers_and_no_other() {
    let (_, _, recorded) = honest();
    let mut server = Who { nonce: 0xb2, ..Who::server() }.start();
    server.sent();
    assert_eq!(server.answer(&recorded.m2), alert(1));
    assert_eq!(server.error, Some(Error::WrongKey));
}

#[test]
fn all_that_a_client_ever_said_says_nothing_on_another_connection() {
    let (mut client, _, recorded) = honest();
    let frames = [client.say(b"pay 100"), client.finish()].concat();
    let mut server = Who { nonce: 0xb2, ..Who::server() }.start();
    let stream = [recorded.m2, frames].concat();
    assert!(server.feed(&stream) < stream.len());
    assert!(!server.is_established());
    assert_eq!(server.heard.len(), 0);
}

#[test]
fn an_m3_is_good_for_the_client_whose_m2_it_answers_and_no_other() {
    let (_, _, recorded) = honest();
    // The same connection of the server, which another client answers, and that client again.
    let others = [
        Who { nonce: 0xa2, ..Who::client() },
        Who { name: "carol", ..Who::client() },
        Who { instance: b'c', ..Who::client() },
        Who { max_frame: 1001, ..Who::client() },
        Who { expected: Some("bob"), ..Who::client() },
    ];
    for who in others {
        let mut client = who.start();
        assert_ne!(client.answer(&recorded.m1), recorded.m2);
        assert_eq!(client.answer(&recorded.m3), b"");
        assert_eq!(client.error, Some(Error::WrongKey), "{who:?}");
    }
    // The same client on another connection, which even draws the same nonce.
    let mut server = Who { nonce: 0xb2, ..Who::server() }.start();
    let mut client = Who::client().start();
    client.feed(&server.sent());
    client.sent();
    assert_eq!(client.answer(&recorded.m3), b"");
    assert_eq!(client.error, Some(Error::WrongKey));
}

/// The attacker has no key and two connections, and passes on the one what he gets on the other.
#[test]
fn what_is_reflected_across_two_connections_proves_nothing() {
    let server = |nonce| Who { nonce, ..Who::server() }.start();
    // M1 of one connection on the other, in either role.
    let (mut first, mut second) = (server(0xb1), server(0xb2));
    second.sent();
    assert_eq!(second.answer(&first.sent()), alert(4));
    assert_eq!(second.error, Some(Error::Malformed));

    // A client answers the M1 of one connection; the other gets the answer.
    let (mut first, mut second) = (server(0xb1), server(0xb2));
    let mut client = Who::client().start();
    let m2 = client.answer(&first.sent());
    second.sent();
    assert_eq!(second.answer(&m2), alert(1));
    assert_eq!(second.error, Some(Error::WrongKey));

    // Its own proof, as the server's.
    assert_eq!(client.answer(&m2), b"");
    assert_eq!(client.error, Some(Error::Malformed));
    let mut client = Who::client().start();
    let proof = &client.answer(&server(0xb1).sent())[m2.len() - 32..];
    let mut m3 = honest().2.m3;
    let start = m3.len() - 32;
    m3[start..].copy_from_slice(proof);
    assert_eq!(client.answer(&m3), b"");
    assert_eq!(client.error, Some(Error::WrongKey));
}

/// A client and the server of its own process, which the attacker connects: the challenge of one
/// connection comes back on another.
#[test]
fn a_client_of_which_the_challenge_comes_back_from_its_own_server_is_refused() {
    let client = Who { nonce: 0xa1, ..Who::client() };
    let server = Who { role: Role::Server, nonce: 0xa2, ..Who::client() };
    let (mut client, mut server) = (client.start(), server.start());
    let said = introduce(&mut client, &mut server).m3;
    assert_eq!(said, alert(1));
    assert_eq!(client.error, Some(Error::Alert(Alert::Refused)));
    assert!(matches!(server.error, Some(Error::Identity(_))));
}

/// Frames of every type, one after the other, by either end.
fn frames(end: &mut End) -> Vec<Vec<u8>> {
    let mut frames = vec![end.say(b"one"), end.say(b""), end.say_part(b"th"), end.say(b"ree")];
    end.pass(std::time::Duration::from_secs(15));
    frames.push(end.sent());
    frames.push(end.say(b"five"));
    frames.push(end.finish());
    frames
}

const HEARD: [&[u8]; 5] = [b"one", b"", b"th", b"ree", b"five"];

/// What either end makes of these frames of the other, for each end.
fn hears(change: impl Fn(&mut Vec<Vec<u8>>)) -> [End; 2] {
    [Role::Client, Role::Server].map(|hearer| {
        let (mut client, mut server, _) = honest();
        let (from, to) = match hearer {
            Role::Client => (&mut server, &mut client),
            Role::Server => (&mut client, &mut server),
        };
        let mut frames = frames(from);
        change(&mut frames);
        to.feed(&frames.concat());
        match hearer {
            Role::Client => client,
            Role::Server => server,
        }
    })
}

/// How many of the application's parts the first frames have.
fn parts(frames: usize) -> usize {
    if frames > 4 { frames - 1 } else { frames }
}

#[test]
fn frames_in_their_order_are_heard() {
    for mut end in hears(|_| ()) {
        assert_eq!(end.heard, HEARD);
        assert_eq!(end.error, None);
        end.finish();
        assert!(end.is_closed());
    }
}

#[test]
fn a_frame_that_is_dropped_ends_it_with_the_next() {
    for dropped in 0..7 {
        for mut end in hears(|frames| _ = frames.remove(dropped)) {
            assert_eq!(end.heard, HEARD[..parts(dropped)]);
            if dropped < 6 {
                assert_eq!(end.error, TAG, "{dropped}");
            } else {
                // Nothing follows the last, but the end.
                assert_eq!(end.error, None);
                end.eof();
                assert_eq!(end.error, Some(Error::Truncated(Truncated::Stream)));
            }
        }
    }
}

#[test]
fn a_frame_that_is_repeated_ends_it_at_once_or_later() {
    for repeated in 0..7 {
        for later in repeated + 1..8 {
            let again = |frames: &mut Vec<Vec<u8>>| frames.insert(later, frames[repeated].clone());
            for end in hears(again) {
                assert_eq!(end.heard, HEARD[..parts(later).min(5)], "{repeated} after {later}");
                assert_eq!(end.error, TAG, "{repeated} after {later}");
            }
        }
    }
}

#[test]
fn frames_that_change_places_end_it() {
    for (first, second) in (0..7).flat_map(|first| (first + 1..7).map(move |s| (first, s))) {
        for end in hears(|frames| frames.swap(first, second)) {
            assert_eq!(end.heard, HEARD[..parts(first)]);
            assert_eq!(end.error, TAG, "{first} and {second}");
        }
    }
}

#[test]
fn frames_sent_back_to_their_sender_end_it() {
    for (role, place) in
        [Role::Client, Role::Server].into_iter().flat_map(|r| (0..7).map(move |p| (r, p)))
    {
        let (client, server, _) = honest();
        let (mut sender, mut other) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        let (sent, expected) = (frames(&mut sender), frames(&mut other));
        // Where the other's frame of the same number is due.
        sender.feed(&expected[..place].concat());
        assert_eq!(sender.error, None);
        sender.feed(&sent[place]);
        assert_eq!(sender.error, TAG, "{role:?}, {place}");
        assert_eq!(sender.heard, HEARD[..parts(place)]);
    }
}

#[test]
fn frames_do_not_move_between_sessions_of_one_key() {
    let (alice, bob) = (Who::client(), Who::server());
    let (mut client, mut server, _) = honest();
    let (up, down) = (client.say(b"up"), server.say(b"down"));
    let others = [
        (Who { nonce: 0xa2, ..alice }, bob),
        (alice, Who { nonce: 0xb2, ..bob }),
        (alice, Who { name: "bert", ..bob }),
        (alice, Who { instance: b'B', ..bob }),
        (alice, Who { heartbeat_ms: 1000, ..bob }),
        (Who { kid: "k2", ..alice }, Who { kid: "k2", ..bob }),
    ];
    for (alice, bob) in others {
        let (mut other_client, mut other_server, _) = pair(&alice, &bob);
        assert_ne!(other_client.session_id(), client.session_id());
        other_server.feed(&up);
        assert_eq!(other_server.error, TAG, "{alice:?}, {bob:?}");
        other_client.feed(&down);
        assert_eq!(other_client.error, TAG, "{alice:?}, {bob:?}");
    }
    assert_eq!(server.answer(&up), b"");
    assert_eq!(server.heard, [b"up"]);
}
