//! Every bit of a handshake, changed on the way.

use countersign::{Alert, Error, Role, Truncated};
use countersign_tests::Policy;

use super::{policies, start};
use crate::ends::{End, SECRET, flips};

/// How many frames a handshake has; the server's is the first.
const FRAMES: usize = 6;

/// The handshake of two ends between which `change` sits, who is given the number of each frame.
fn relay(policy: Policy, mut change: impl FnMut(usize, Vec<u8>) -> Vec<u8>) -> [End; 2] {
    let [mut client, mut server] =
        [Role::Client, Role::Server].map(|role| start(policy, role, 0xa1 + role as u8, SECRET));
    let mut said = server.sent();
    for number in 0..FRAMES {
        let hears = if number % 2 == 0 { &mut client } else { &mut server };
        said = hears.answer(&change(number, said));
        if said.is_empty() {
            break;
        }
    }
    client.feed(&said);
    for end in [&mut client, &mut server] {
        if end.error.is_none() {
            end.eof();
        }
    }
    [client, server]
}

/// The frame of that number.
fn frame(policy: Policy, wanted: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    relay(policy, |number, said| {
        if number == wanted {
            frame.clone_from(&said);
        }
        said
    });
    frame
}

/// What an end makes of it.
fn ending(end: &End) -> &'static str {
    match end.error {
        None => "goes on",
        Some(Error::WrongKey | Error::Malformed | Error::Incompatible) => "refuses",
        Some(Error::Alert(Alert::Refused)) => "is refused",
        Some(Error::Truncated(Truncated::Handshake)) => "waits",
        Some(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_bit_of_the_handshake_changed_keeps_the_ends_apart() {
    for policy in policies() {
        for changed in 0..FRAMES {
            for (at, flipped) in flips(&frame(policy, changed)) {
                let what = format!("{policy:?}, byte {at} of frame {changed}");
                let change = |n, said| if n == changed { flipped.clone() } else { said };
                let [client, server] = relay(policy, change);
                assert!(!server.is_established(), "{what}");
                // To the client all is well when it has said its last word.
                assert_eq!(client.is_established(), changed == FRAMES - 1, "{what}");
                let right = match (ending(&client), ending(&server)) {
                    ("goes on", "refuses" | "waits") => changed == FRAMES - 1,
                    // A wrong response, which it was or which was made so, is told its sender.
                    ("is refused", "refuses") => changed <= 1,
                    ("refuses", "is refused") => changed == 3 || changed == 4,
                    // Of anything else nothing is said.
                    ("refuses", "waits") => changed == 0 || changed == 2,
                    ("waits", "refuses") => changed == 3,
                    // What a length leaves over or takes away is found in the next frame.
                    _ => at < 4,
                };
                assert!(right, "{what}: {:?} {:?}", client.error, server.error);
            }
        }
    }
}

#[test]
fn a_handshake_that_nobody_changed_brings_them_together() {
    for policy in policies() {
        let mut frames = 0;
        for end in relay(policy, |_, said| {
            frames += 1;
            said
        }) {
            assert!(end.is_established());
        }
        assert_eq!(frames, FRAMES);
    }
}
