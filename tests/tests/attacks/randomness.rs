//! Randomness that fails, repeats or is predictable, and what still holds.

use core::convert::Infallible;

use countersign::rand_core::{TryCryptoRng, TryRng};
use countersign::{Error, FrameError, Nonce, ProcessId};

use crate::endpoint::{alert, established, pair, run_handshake};
use crate::party::Party;

const TAG: Option<Error> = Some(Error::Frame(FrameError::Tag));

/// A generator that fails after this many bytes.
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

/// Without a nonce there is no session, and so no M1 and no M2.
#[test]
fn failing_generator_yields_no_nonce_and_no_process_id() {
    for bytes in 0..Nonce::LEN {
        assert_eq!(Nonce::generate(&mut Failing(bytes)).unwrap_err(), Exhausted);
    }
    for bytes in 0..ProcessId::LEN {
        assert_eq!(ProcessId::generate(&mut Failing(bytes)).unwrap_err(), Exhausted);
    }
    // Each draws exactly as many bytes as it has.
    assert!(Nonce::generate(&mut Failing(Nonce::LEN)).is_ok());
    assert!(ProcessId::generate(&mut Failing(ProcessId::LEN)).is_ok());
}

/// The server repeats its nonce within one process, so the session repeats exactly. The attacker
/// can replay the client's frames from the first one on and in order, and nothing else.
#[test]
fn repeated_server_nonce_permits_replay_of_one_session() {
    let (mut client, mut server, recorded) = established();
    let frames = [client.send(b"one"), client.send(b"two"), client.send(b"three")];
    let down = server.send(b"secret");

    let mut again = Party::server().start();
    assert_eq!(again.output(), recorded.m1, "the nonce is repeated");
    assert_eq!(again.answer(&recorded.m2), recorded.m3);
    assert_eq!(again.session_id(), client.session_id());
    again.feed(&frames[0]);
    again.feed(&frames[1]);
    assert_eq!(again.received, [b"one", b"two"]);
    // Any other frame fails: a forged one, another of the client's, one of the server's.
    for frame in [&frames[0], &frames[1], &down, &forged()] {
        let mut again = Party::server().start();
        again.output();
        again.answer(&recorded.m2);
        again.feed(&frames[0]);
        again.feed(&frames[1]);
        again.feed(frame);
        assert_eq!(again.error, TAG);
        assert_eq!(again.received.len(), 2);
    }
}

/// The server repeats its nonce after a restart. The process id differs, and so do M3 and the keys.
#[test]
fn nonce_repeated_after_a_restart_yields_no_data() {
    let (mut client, _, recorded) = established();
    let frame = client.send(b"one");
    for frame in [frame, forged()] {
        let mut restarted = Party { process_id: b'B', ..Party::server() }.start();
        assert_eq!(restarted.output(), recorded.m1, "the nonce is repeated");
        let m3 = restarted.answer(&recorded.m2);
        assert!(restarted.is_established() && m3 != recorded.m3);
        assert_ne!(restarted.session_id(), client.session_id());
        restarted.feed(&frame);
        assert_eq!(restarted.error, TAG);
        assert_eq!(restarted.received.len(), 0);
    }
}

/// Returns a frame that an attacker without the key makes.
fn forged() -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 1 + 7 + 16, 0];
    frame.extend_from_slice(b"pay 100");
    frame.extend_from_slice(&[0x66; 16]);
    frame
}

/// The attacker knows the server's next nonce, and has a client answer it in advance.
#[test]
fn predicted_server_nonce_yields_no_data() {
    let predicted = Party::server().start().output();
    let mut client = Party::client().start();
    let m2 = client.answer(&predicted);
    client.eof();
    assert!(client.error.is_some() && !client.is_established());

    let mut server = Party::server().start();
    assert_eq!(server.output(), predicted);
    let m3 = server.answer(&m2);
    assert!(server.is_established(), "after M3 the server only knows that such a client existed");
    // Neither the attacker nor another client relayed to the server has the session's keys.
    let mut other = Party { nonce: 0xa2, ..Party::client() }.start();
    other.feed(&predicted);
    other.output();
    assert_eq!(other.answer(&m3), b"");
    assert_eq!(other.error, Some(Error::WrongKey));
    server.feed(&forged());
    assert_eq!(server.error, TAG);
    assert_eq!(server.received.len(), 0);
}

#[test]
fn repeated_client_nonce_still_yields_distinct_sessions() {
    let (mut client, mut server, recorded) = established();
    let (up, down) = (client.send(b"up"), server.send(b"down"));
    let party = Party { nonce: 0xb2, ..Party::server() };
    let (mut again, mut other, whole) = pair(&Party::client(), &party);
    assert_eq!(whole.m2[..whole.m2.len() - 32], recorded.m2[..recorded.m2.len() - 32]);
    assert_ne!(whole.m2, recorded.m2);
    assert_ne!(again.session_id(), client.session_id());
    again.feed(&down);
    other.feed(&up);
    assert_eq!((again.error, other.error), (TAG, TAG));
    // A recorded M2 of the first server nonce is refused under the second.
    let mut third = party.start();
    third.output();
    assert_eq!(third.answer(&recorded.m2), alert(1));
}

/// Two clients that answer one M1 with equal nonces differ in their process ids.
#[test]
fn clients_with_one_nonce_differ_by_process_id() {
    let (_, _, recorded) = established();
    let mut server = Party::server().start();
    let mut other = Party { process_id: b'c', ..Party::client() }.start();
    let m3 = run_handshake(&mut other, &mut server).m3;
    assert_ne!(m3, recorded.m3);
    let mut first = Party::client().start();
    first.feed(&recorded.m1);
    first.output();
    first.feed(&m3);
    assert_eq!(first.error, Some(Error::WrongKey));
}

/// A constant generator is bad but does not fail: the caller is responsible for its quality.
#[test]
fn nonce_is_the_output_of_the_generator() {
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
    let m1 = Party::server().start_with(nonce).output();
    assert_eq!(m1, established().2.m1);
}
