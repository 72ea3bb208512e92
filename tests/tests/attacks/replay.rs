//! Replay: recorded messages and frames, sent again, elsewhere, or back to their sender.

use countersign::{Alert, Error, FrameError, Role, Truncated};

use crate::endpoint::{Endpoint, alert, established, pair, run_handshake};
use crate::party::Party;

const TAG: Option<Error> = Some(Error::Frame(FrameError::Tag));

#[test]
fn replayed_m2_is_refused() {
    let (_, _, recorded) = established();
    let mut server = Party { nonce: 0xb2, ..Party::server() }.start();
    server.output();
    assert_eq!(server.answer(&recorded.m2), alert(1));
    assert_eq!(server.error, Some(Error::WrongKey));
}

#[test]
fn replayed_client_stream_is_refused() {
    let (mut client, _, recorded) = established();
    let frames = [client.send(b"pay 100"), client.finish()].concat();
    let mut server = Party { nonce: 0xb2, ..Party::server() }.start();
    let stream = [recorded.m2, frames].concat();
    assert!(server.feed(&stream) < stream.len());
    assert!(!server.is_established());
    assert_eq!(server.received.len(), 0);
}

#[test]
fn replayed_m3_is_refused() {
    let (_, _, recorded) = established();
    // Another client answers the same M1.
    let others = [
        Party { nonce: 0xa2, ..Party::client() },
        Party { name: "carol", ..Party::client() },
        Party { process_id: b'c', ..Party::client() },
        Party { max_frame: 1001, ..Party::client() },
        Party { expected: Some("bob"), ..Party::client() },
    ];
    for party in others {
        let mut client = party.start();
        assert_ne!(client.answer(&recorded.m1), recorded.m2);
        assert_eq!(client.answer(&recorded.m3), b"");
        assert_eq!(client.error, Some(Error::WrongKey), "{party:?}");
    }
    // The same client on another connection, even with the same nonce.
    let mut server = Party { nonce: 0xb2, ..Party::server() }.start();
    let mut client = Party::client().start();
    client.feed(&server.output());
    client.output();
    assert_eq!(client.answer(&recorded.m3), b"");
    assert_eq!(client.error, Some(Error::WrongKey));
}

/// The attacker has no key and two connections, and relays between them.
#[test]
fn messages_reflected_across_connections_are_refused() {
    let server = |nonce| Party { nonce, ..Party::server() }.start();
    // M1 of one connection is delivered on the other, in either role.
    let (mut first, mut second) = (server(0xb1), server(0xb2));
    second.output();
    assert_eq!(second.answer(&first.output()), alert(4));
    assert_eq!(second.error, Some(Error::Malformed));

    // A client answers the M1 of one connection, and the other gets the answer.
    let (mut first, mut second) = (server(0xb1), server(0xb2));
    let mut client = Party::client().start();
    let m2 = client.answer(&first.output());
    second.output();
    assert_eq!(second.answer(&m2), alert(1));
    assert_eq!(second.error, Some(Error::WrongKey));

    // The client's own proof is delivered as the server's.
    assert_eq!(client.answer(&m2), b"");
    assert_eq!(client.error, Some(Error::Malformed));
    let mut client = Party::client().start();
    let proof = &client.answer(&server(0xb1).output())[m2.len() - 32..];
    let mut m3 = established().2.m3;
    let start = m3.len() - 32;
    m3[start..].copy_from_slice(proof);
    assert_eq!(client.answer(&m3), b"");
    assert_eq!(client.error, Some(Error::WrongKey));
}

/// The attacker connects a client to the server of its own process.
#[test]
fn client_relayed_to_its_own_process_is_refused() {
    let client = Party { nonce: 0xa1, ..Party::client() };
    let server = Party { role: Role::Server, nonce: 0xa2, ..Party::client() };
    let (mut client, mut server) = (client.start(), server.start());
    let sent = run_handshake(&mut client, &mut server).m3;
    assert_eq!(sent, alert(1));
    assert_eq!(client.error, Some(Error::Alert(Alert::Refused)));
    assert!(matches!(server.error, Some(Error::Identity(_))));
}

/// Returns frames of every type, sent by one endpoint in this order.
fn frames(end: &mut Endpoint) -> Vec<Vec<u8>> {
    let mut frames = vec![end.send(b"one"), end.send(b""), end.send_chunk(b"th"), end.send(b"ree")];
    end.advance(std::time::Duration::from_secs(15));
    frames.push(end.output());
    frames.push(end.send(b"five"));
    frames.push(end.finish());
    frames
}

const DELIVERED: [&[u8]; 5] = [b"one", b"", b"th", b"ree", b"five"];

/// Lets each endpoint receive the frames of the other, after `change`.
fn deliver(change: impl Fn(&mut Vec<Vec<u8>>)) -> [Endpoint; 2] {
    [Role::Client, Role::Server].map(|receiver| {
        let (mut client, mut server, _) = established();
        let (from, to) = match receiver {
            Role::Client => (&mut server, &mut client),
            Role::Server => (&mut client, &mut server),
        };
        let mut frames = frames(from);
        change(&mut frames);
        to.feed(&frames.concat());
        match receiver {
            Role::Client => client,
            Role::Server => server,
        }
    })
}

/// Returns how many chunks the first `frames` frames contain.
fn chunks_in(frames: usize) -> usize {
    if frames > 4 { frames - 1 } else { frames }
}

#[test]
fn frames_in_order_are_delivered() {
    for mut end in deliver(|_| ()) {
        assert_eq!(end.received, DELIVERED);
        assert_eq!(end.error, None);
        end.finish();
        assert!(end.is_closed());
    }
}

#[test]
fn frame_after_a_dropped_one_fails() {
    for dropped in 0..7 {
        for mut end in deliver(|frames| _ = frames.remove(dropped)) {
            assert_eq!(end.received, DELIVERED[..chunks_in(dropped)]);
            if dropped < 6 {
                assert_eq!(end.error, TAG, "{dropped}");
            } else {
                // Only the end of the stream follows the last frame.
                assert_eq!(end.error, None);
                end.eof();
                assert_eq!(end.error, Some(Error::Truncated(Truncated::Stream)));
            }
        }
    }
}

#[test]
fn repeated_frame_fails() {
    for repeated in 0..7 {
        for later in repeated + 1..8 {
            let again = |frames: &mut Vec<Vec<u8>>| frames.insert(later, frames[repeated].clone());
            for end in deliver(again) {
                assert_eq!(
                    end.received,
                    DELIVERED[..chunks_in(later).min(5)],
                    "{repeated} after {later}"
                );
                assert_eq!(end.error, TAG, "{repeated} after {later}");
            }
        }
    }
}

#[test]
fn reordered_frames_fail() {
    for (first, second) in (0..7).flat_map(|first| (first + 1..7).map(move |s| (first, s))) {
        for end in deliver(|frames| frames.swap(first, second)) {
            assert_eq!(end.received, DELIVERED[..chunks_in(first)]);
            assert_eq!(end.error, TAG, "{first} and {second}");
        }
    }
}

#[test]
fn reflected_frame_fails() {
    for (role, place) in
        [Role::Client, Role::Server].into_iter().flat_map(|r| (0..7).map(move |p| (r, p)))
    {
        let (client, server, _) = established();
        let (mut sender, mut other) = match role {
            Role::Client => (client, server),
            Role::Server => (server, client),
        };
        let (sent, expected) = (frames(&mut sender), frames(&mut other));
        // Delivered in place of the peer's frame with the same sequence number.
        sender.feed(&expected[..place].concat());
        assert_eq!(sender.error, None);
        sender.feed(&sent[place]);
        assert_eq!(sender.error, TAG, "{role:?}, {place}");
        assert_eq!(sender.received, DELIVERED[..chunks_in(place)]);
    }
}

#[test]
fn frame_of_another_session_fails() {
    let (alice, bob) = (Party::client(), Party::server());
    let (mut client, mut server, _) = established();
    let (up, down) = (client.send(b"up"), server.send(b"down"));
    let others = [
        (Party { nonce: 0xa2, ..alice }, bob),
        (alice, Party { nonce: 0xb2, ..bob }),
        (alice, Party { name: "bert", ..bob }),
        (alice, Party { process_id: b'B', ..bob }),
        (alice, Party { heartbeat_ms: 1000, ..bob }),
        (Party { key_id: "k2", ..alice }, Party { key_id: "k2", ..bob }),
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
    assert_eq!(server.received, [b"up"]);
}
