//! Randomness that fails, repeats or is known beforehand, and what then still holds.

use core::convert::Infallible;

use countersign::rand_core::{TryCryptoRng, TryRng};
use countersign::{Error, FrameError, Nonce, ProcessId};

use crate::ends::{Who, alert, honest, introduce, pair};

const TAG: Option<Error> = Some(Error::Frame(FrameError::Tag));

/// A generator that gives so many bytes and then fails.
struct Failing(usize);

#[derive(Debug, PartialEq)]
struct Exhausted;

impl core::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no entropy")
    }
}

impl core::error::Error for Exhausted {}

impl TryRng for Failing {
    type Error = Exhausted;

    fn try_next_u32(&mut self) -> Result<u32, Exhausted> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_be_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Exhausted> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_be_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Exhausted> {
        for byte in bytes {
            self.0 = self.0.checked_sub(1).ok_or(Exhausted)?;
            *byte = 0x52;
        }
        Ok(())
    }
}

impl TryCryptoRng for Failing {}

/// Without a nonce there can be no session, so no M1 and no M2.
#[test]
fn a_generator_that_fails_gives_no_nonce_and_no_instance() {
    for bytes in 0..Nonce::LEN {
        assert_eq!(Nonce::generate(&mut Failing(bytes)).unwrap_err(), Exhausted);
    }
    for bytes in 0..ProcessId::LEN {
        assert_eq!(ProcessId::generate(&mut Failing(bytes)).unwrap_err(), Exhausted);
    }
    // All that there is goes into them, and no more is asked for.
    assert!(Nonce::generate(&mut Failing(Nonce::LEN)).is_ok());
    assert!(ProcessId::generate(&mut Failing(ProcessId::LEN)).is_ok());
}

/// A session that a server repeats to the byte: its nonce again, its process the same. The attacker
/// can repeat what the client said, from its first frame on and in its order, and that is all.
#[test]
fn a_server_that_repeats_its_nonce_can_be_told_again_what_it_was_told_and_nothing_else() {
    let (mut client, mut server, recorded) = honest();
    let frames = [client.say(b"one"), client.say(b"two"), client.say(b"three")];
    let down = server.say(b"secret");

    let mut again = Who::server().start();
    assert_eq!(again.sent(), recorded.m1, "the nonce is repeated");
    assert_eq!(again.answer(&recorded.m2), recorded.m3);
    assert_eq!(again.session_id(), client.session_id());
    again.feed(&frames[0]);
    again.feed(&frames[1]);
    assert_eq!(again.heard, [b"one", b"two"]);
    // Anything else is noticed: his own, another of the client's, the server's.
    for frame in [&frames[0], &frames[1], &down, &forged()] {
        let mut again = Who::server().start();
        again.sent();
        again.answer(&recorded.m2);
        again.feed(&frames[0]);
        again.feed(&frames[1]);
        again.feed(frame);
        assert_eq!(again.error, TAG);
        assert_eq!(again.heard.len(), 2);
    }
}

/// The same after the server was started again: another instance, so another M3 and other keys.
#[test]
fn a_server_that_repeats_a_nonce_of_another_process_gives_a_replay_m3_and_hears_nothing() {
    let (mut client, _, recorded) = honest();
    let frame = client.say(b"one");
    for frame in [frame, forged()] {
        let mut restarted = Who { instance: b'B', ..Who::server() }.start();
        assert_eq!(restarted.sent(), recorded.m1, "the nonce is repeated");
        let m3 = restarted.answer(&recorded.m2);
        assert!(restarted.is_established() && m3 != recorded.m3);
        assert_ne!(restarted.session_id(), client.session_id());
        restarted.feed(&frame);
        assert_eq!(restarted.error, TAG);
        assert_eq!(restarted.heard.len(), 0);
    }
}

/// A frame as somebody makes it who has no key.
fn forged() -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 1 + 7 + 16, 0];
    frame.extend_from_slice(b"pay 100");
    frame.extend_from_slice(&[0x66; 16]);
    frame
}

/// The attacker knows which nonce the server will draw, and has a client answer it beforehand.
#[test]
fn a_server_whose_nonce_was_foreseen_is_established_with_one_that_is_gone_and_hears_nothing() {
    let foreseen = Who::server().start().sent();
    let mut client = Who::client().start();
    let m2 = client.answer(&foreseen);
    client.eof();
    assert!(client.error.is_some() && !client.is_established());

    let mut server = Who::server().start();
    assert_eq!(server.sent(), foreseen);
    let m3 = server.answer(&m2);
    assert!(server.is_established(), "on M3 the server knows no more than that such a client was");
    // Nobody has the keys: not he, nor any client that he leads to it.
    let mut other = Who { nonce: 0xa2, ..Who::client() }.start();
    other.feed(&foreseen);
    other.sent();
    assert_eq!(other.answer(&m3), b"");
    assert_eq!(other.error, Some(Error::WrongKey));
    server.feed(&forged());
    assert_eq!(server.error, TAG);
    assert_eq!(server.heard.len(), 0);
}

#[test]
fn a_client_that_repeats_its_nonce_is_kept_apart_by_the_server_s() {
    let (mut client, mut server, recorded) = honest();
    let (up, down) = (client.say(b"up"), server.say(b"down"));
    let who = Who { nonce: 0xb2, ..Who::server() };
    let (mut again, mut other, whole) = pair(&Who::client(), &who);
    assert_eq!(whole.m2[..whole.m2.len() - 32], recorded.m2[..recorded.m2.len() - 32]);
    assert_ne!(whole.m2, recorded.m2);
    assert_ne!(again.session_id(), client.session_id());
    again.feed(&down);
    other.feed(&up);
    assert_eq!((again.error, other.error), (TAG, TAG));
    // What was recorded of the first is refused where the second is due.
    let mut third = who.start();
    third.sent();
    assert_eq!(third.answer(&recorded.m2), alert(1));
}

/// Two clients that draw the same nonce for the same M1 are still two, if anything tells them apart.
#[test]
fn clients_that_draw_one_nonce_are_told_apart_by_who_they_are() {
    let (_, _, recorded) = honest();
    let mut server = Who::server().start();
    let mut other = Who { instance: b'c', ..Who::client() }.start();
    let m3 = introduce(&mut other, &mut server).m3;
    assert_ne!(m3, recorded.m3);
    let mut first = Who::client().start();
    first.feed(&recorded.m1);
    first.sent();
    first.feed(&m3);
    assert_eq!(first.error, Some(Error::WrongKey));
}

/// A generator of a constant is a bad one and not a broken one: whoever draws has to see to it.
#[test]
fn a_nonce_is_what_was_drawn() {
    struct Constant;
    impl TryRng for Constant {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(0xb1b1_b1b1)
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(0xb1b1_b1b1_b1b1_b1b1)
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
            bytes.fill(0xb1);
            Ok(())
        }
    }
    impl TryCryptoRng for Constant {}
    let nonce = Nonce::generate(&mut Constant).unwrap();
    let m1 = Who::server().start_with(nonce).sent();
    assert_eq!(m1, honest().2.m1);
}
