//! Every bit of a handshake, flipped in transit.

use countersign::{Alert, Error, Role, Truncated};
use countersign_tests::Policy;

use super::{policies, start};
use crate::endpoint::{Endpoint, flips};
use crate::party::SECRET;

/// Number of frames in a handshake, the server's first.
const FRAMES: usize = 6;

/// Runs a handshake in which `change` gets the number and the bytes of each frame.
fn relay(policy: Policy, mut change: impl FnMut(usize, Vec<u8>) -> Vec<u8>) -> [Endpoint; 2] {
    let [mut client, mut server] =
        [Role::Client, Role::Server].map(|role| start(policy, role, 0xa1 + role as u8, SECRET));
    let mut sent = server.output();
    for number in 0..FRAMES {
        let receiver = if number % 2 == 0 { &mut client } else { &mut server };
        sent = receiver.answer(&change(number, sent));
        if sent.is_empty() {
            break;
        }
    }
    client.feed(&sent);
    for end in [&mut client, &mut server] {
        if end.error.is_none() {
            end.eof();
        }
    }
    [client, server]
}

/// Returns the unmodified frame with the number `wanted`.
fn frame(policy: Policy, wanted: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    relay(policy, |number, sent| {
        if number == wanted {
            frame.clone_from(&sent);
        }
        sent
    });
    frame
}

/// Returns what became of an endpoint.
fn result_of(end: &Endpoint) -> &'static str {
    match end.error {
        None => "goes on",
        Some(Error::WrongKey | Error::Malformed | Error::Incompatible) => "refuses",
        Some(Error::Alert(Alert::Refused)) => "is refused",
        Some(Error::Truncated(Truncated::Handshake)) => "waits",
        Some(error) => panic!("{error:?}"),
    }
}

#[test]
fn flipped_bit_in_the_handshake_is_refused() {
    for policy in policies() {
        for changed in 0..FRAMES {
            for (at, flipped) in flips(&frame(policy, changed)) {
                let what = format!("{policy:?}, byte {at} of frame {changed}");
                let change = |n, sent| if n == changed { flipped.clone() } else { sent };
                let [client, server] = relay(policy, change);
                assert!(!server.is_established(), "{what}");
                // The client is established once it has sent its verdict.
                assert_eq!(client.is_established(), changed == FRAMES - 1, "{what}");
                let right = match (result_of(&client), result_of(&server)) {
                    ("goes on", "refuses" | "waits") => changed == FRAMES - 1,
                    // The sender of a wrong response is notified, whether the response or its
                    // challenge was modified.
                    ("is refused", "refuses") => changed <= 1,
                    ("refuses", "is refused") => changed == 3 || changed == 4,
                    // Other modifications get no answer.
                    ("refuses", "waits") => changed == 0 || changed == 2,
                    ("waits", "refuses") => changed == 3,
                    // Surplus or missing bytes of a frame are detected in the next one.
                    _ => at < 4,
                };
                assert!(right, "{what}: {:?} {:?}", client.error, server.error);
            }
        }
    }
}

#[test]
fn unmodified_handshake_succeeds() {
    for policy in policies() {
        let mut frames = 0;
        for end in relay(policy, |_, sent| {
            frames += 1;
            sent
        }) {
            assert!(end.is_established());
        }
        assert_eq!(frames, FRAMES);
    }
}
