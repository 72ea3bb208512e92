//! Truncation after every byte of a session, and a bit flip in every byte: the handshake, the messages
//! and the end.

use countersign::{Error, Role, Truncated};

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::link::Link;
use crate::pki::{Pki, Version};

/// A link whose bytes in one direction can be tampered with.
struct TamperedLink {
    link: Link,
    /// The sender in that direction.
    sender: Role,
    /// Bytes that `sender` has sent.
    sent: usize,
}

/// Changes bytes of the sender in transit. Its first argument is the number of bytes sent before.
trait Tamper: FnMut(usize, &mut Vec<u8>) {}

impl<T: FnMut(usize, &mut Vec<u8>)> Tamper for T {}

impl TamperedLink {
    fn new(link: Link, sender: Role) -> Self {
        Self { link, sender, sent: 0 }
    }

    /// The sender and the receiver.
    fn endpoints(&mut self) -> (&mut Endpoint, &mut Endpoint) {
        let Link { client, server, .. } = &mut self.link;
        match self.sender {
            Role::Client => (client, server),
            Role::Server => (server, client),
        }
    }

    /// Transfers pending bytes in both directions. Returns whether there were any.
    fn exchange(&mut self, tamper: &mut impl Tamper) -> bool {
        let before = self.sent;
        let (sender, receiver) = self.endpoints();
        sender.poll();
        let mut bytes = sender.transmit();
        let (n, mut moved) = (bytes.len(), !bytes.is_empty());
        tamper(before, &mut bytes);
        receiver.receive_all(&bytes);
        let answer = receiver.transmit();
        moved |= !answer.is_empty();
        sender.receive_all(&answer);
        self.sent += n;
        moved
    }

    /// Runs a whole session: the handshake, two messages and the end.
    fn run_session(&mut self, tamper: &mut impl Tamper) {
        while self.exchange(tamper) {}
        for message in MESSAGES {
            if self.link.client.established && self.link.client.result.is_none() {
                let _ = self.link.client.outbox().send(message);
            }
            while self.exchange(tamper) {}
        }
        let now = self.link.client.now;
        self.link.client.protocol.finish(now);
        while self.exchange(tamper) {}
    }
}

const MESSAGES: [&[u8]; 2] = [b"hello", b"world"];
/// All data that the server receives, and all that the client receives.
const REQUESTS: &[u8] = b"helloworld";
const ANSWERS: &[u8] = b"HELLOWORLD";

/// Bytes that `sender` sends in a whole session. It varies by a byte or two with the length of
/// signatures.
fn session_len(pki: &Pki, inner: Inner, version: Version, sender: Role) -> usize {
    let mut link = TamperedLink::new(pki.link(inner, version), sender);
    link.run_session(&mut |_, _| {});
    assert_eq!(link.link.client.result, Some(Ok(())), "{inner:?} {version:?}");
    assert_eq!(link.link.server.result, Some(Ok(())), "{inner:?} {version:?}");
    link.sent
}

/// Cuts the stream of `sender` off after `len` bytes.
fn truncate_at(pki: &Pki, (inner, version, sender): (Inner, Version, Role), len: usize) {
    let case = format!("{inner:?} {version:?} {sender:?} {len}");
    let mut link = TamperedLink::new(pki.link(inner, version), sender);
    let mut whole = true;
    link.run_session(&mut |before: usize, bytes: &mut Vec<u8>| {
        let kept = len.saturating_sub(before);
        whole &= kept >= bytes.len();
        bytes.truncate(kept);
    });
    let (_, receiver) = link.endpoints();
    receiver.receive_eof();
    receiver.poll();
    receiver.transmit();
    let all = if sender == Role::Client { REQUESTS } else { ANSWERS };
    assert!(all.starts_with(&receiver.received), "{case}");
    if whole {
        assert_eq!(receiver.result, Some(Ok(())), "{case}");
        return;
    }
    if inner == Inner::Untagged && receiver.peer_finished {
        // The inner protocol's FIN was received. Only TLS's close_notify is missing.
        assert_eq!(receiver.received, all, "{case}");
        return;
    }
    assert!(!receiver.peer_finished, "{case}");
    let Some(Err(Error::Truncated(truncated))) = receiver.result else {
        panic!("{case}: {:?}", receiver.result)
    };
    assert_eq!(truncated == Truncated::Handshake, !receiver.established, "{case}");
    assert!(receiver.protocol.is_done() && receiver.protocol.wants_shutdown(), "{case}");
}

fn truncate_everywhere(inner: Inner, version: Version) {
    let pki = Pki::new();
    for sender in [Role::Client, Role::Server] {
        // The last lengths are beyond the end of the session, so that it is whole.
        for len in 0..session_len(&pki, inner, version, sender) + 4 {
            truncate_at(&pki, (inner, version, sender), len);
        }
    }
}

#[test]
fn tls13_session_cut_at_any_byte_is_truncated() {
    truncate_everywhere(Inner::None, Version::Tls13);
}

#[test]
fn tls12_session_cut_at_any_byte_is_truncated() {
    truncate_everywhere(Inner::None, Version::Tls12);
}

#[test]
fn mutual_session_cut_at_any_byte_is_truncated() {
    truncate_everywhere(Inner::Untagged, Version::Tls13);
}

/// The offset of byte `at` of `records` in its record.
fn offset_in_record(mut records: &[u8], mut at: usize) -> usize {
    loop {
        let len = 5 + usize::from(u16::from_be_bytes([records[3], records[4]]));
        if at < len {
            return at;
        }
        (records, at) = (&records[len..], at - len);
    }
}

/// Flips a bit of byte `at` from `sender`.
fn flip_bit_at(pki: &Pki, version: Version, sender: Role, at: usize) {
    let case = format!("{version:?} {sender:?} {at}");
    let mut link = TamperedLink::new(pki.link(Inner::None, version), sender);
    let mut flipped = None;
    link.run_session(&mut |before, bytes: &mut Vec<u8>| {
        let at = at.checked_sub(before).filter(|&at| at < bytes.len());
        if let Some(at) = at {
            flipped = Some(offset_in_record(bytes, at));
            bytes[at] ^= 1 << (at % 8);
        }
    });
    let Some(offset) = flipped else { return };
    let Link { client, server, .. } = &mut link.link;
    for endpoint in [&mut *client, server] {
        if endpoint.result.is_none() && !endpoint.established {
            // It waits for more bytes, until the handshake deadline.
            endpoint.set_time(5);
        } else if endpoint.result.is_none() {
            endpoint.receive_eof();
            endpoint.poll();
        }
    }
    let authentic = REQUESTS.starts_with(&server.received) && ANSWERS.starts_with(&client.received);
    assert!(authentic, "{case}");
    // The version in a record header is ignored, and in TLS 1.3 its type too: the real one is encrypted.
    let unnoticed = [client.result, server.result] == [Some(Ok(())); 2];
    assert!(!unnoticed || matches!(offset, 0..=2), "{case}, {offset}: the flip was not noticed");
}

fn flip_everywhere(version: Version) {
    let pki = Pki::new();
    for sender in [Role::Client, Role::Server] {
        for at in 0..session_len(&pki, Inner::None, version, sender) {
            flip_bit_at(&pki, version, sender, at);
        }
    }
}

#[test]
fn tls13_bit_flip_at_any_byte_is_no_data_and_no_end() {
    flip_everywhere(Version::Tls13);
}

#[test]
fn tls12_bit_flip_at_any_byte_is_no_data_and_no_end() {
    flip_everywhere(Version::Tls12);
}
