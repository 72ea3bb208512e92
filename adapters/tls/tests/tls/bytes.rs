//! Every byte cut off, every byte changed, in every record of a handshake and of what follows.

use countersign::{Error, Role, Truncated};

use crate::ends::{End, Inside, Link};
use crate::pki::{Pki, Version};

/// What is between the two, and does to one direction what a test wants.
struct Wire {
    link: Link,
    /// Whose bytes are touched.
    from: Role,
    /// How many bytes came from there.
    said: usize,
}

impl Wire {
    fn new(link: Link, from: Role) -> Self {
        Self { link, from, said: 0 }
    }

    fn ends(&mut self) -> (&mut End, &mut End) {
        let Link { client, server, .. } = &mut self.link;
        match self.from {
            Role::Client => (client, server),
            Role::Server => (server, client),
        }
    }

    /// One exchange in which `touch` changes what `from` said, of which so many bytes came before.
    /// Whether anything moved.
    fn turn(&mut self, touch: &mut impl FnMut(usize, &mut Vec<u8>)) -> bool {
        let before = self.said;
        let (from, to) = self.ends();
        from.poll();
        let mut bytes = from.said(usize::MAX);
        let (n, mut moved) = (bytes.len(), !bytes.is_empty());
        touch(before, &mut bytes);
        to.hears_all(&bytes);
        let back = to.said(usize::MAX);
        moved |= !back.is_empty();
        from.hears_all(&back);
        self.said += n;
        moved
    }

    /// A whole session: the handshake, two messages, an end.
    fn session(&mut self, touch: &mut impl FnMut(usize, &mut Vec<u8>)) {
        while self.turn(touch) {}
        for message in MESSAGES {
            // One that is not let in, or has been told that it is over, says nothing.
            if self.link.client.established && self.link.client.over.is_none() {
                let _ = self.link.client.out().send(message);
            }
            while self.turn(touch) {}
        }
        let now = self.link.client.now;
        self.link.client.machine.finish(now);
        while self.turn(touch) {}
    }
}

const MESSAGES: [&[u8]; 2] = [b"hello", b"world"];
const WHOLE: [&[u8]; 2] = [b"helloworld", b"HELLOWORLD"];

/// How many bytes `from` says in a whole session. The lengths of signatures differ by a byte or two.
fn length(pki: &Pki, inside: Inside, version: Version, from: Role) -> usize {
    let mut wire = Wire::new(pki.link(inside, version), from);
    wire.session(&mut |_, _| {});
    assert_eq!(wire.link.client.over, Some(Ok(())), "{inside:?} {version:?}");
    assert_eq!(wire.link.server.over, Some(Ok(())), "{inside:?} {version:?}");
    wire.said
}

/// A session whose bytes from `from` end behind the first `len`.
fn cut(pki: &Pki, (inside, version, from): (Inside, Version, Role), len: usize) {
    let what = format!("{inside:?} {version:?} {from:?} {len}");
    let mut wire = Wire::new(pki.link(inside, version), from);
    let mut whole = true;
    wire.session(&mut |before, bytes| {
        let left = len.saturating_sub(before);
        whole &= left >= bytes.len();
        bytes.truncate(left);
    });
    let (_, to) = wire.ends();
    to.ends();
    to.poll();
    to.said(usize::MAX);
    let all = if from == Role::Client { WHOLE[0] } else { WHOLE[1] };
    assert!(all.starts_with(&to.heard), "{what}");
    if whole {
        assert_eq!(to.over, Some(Ok(())), "{what}");
        return;
    }
    if inside == Inside::Untagged && to.finished {
        // The end of messages has come, and it is the peer's; what was cut off is that of TLS.
        assert_eq!(to.heard, all, "{what}");
        return;
    }
    // It did not see an end that was none.
    assert!(!to.finished, "{what}");
    let Some(Err(Error::Truncated(kind))) = to.over else { panic!("{what}: {:?}", to.over) };
    assert_eq!(kind == Truncated::Handshake, !to.established, "{what}");
    assert!(to.machine.is_done() && to.machine.wants_shutdown(), "{what}");
}

fn cut_everywhere(inside: Inside, version: Version) {
    let pki = Pki::new();
    for from in [Role::Client, Role::Server] {
        // And a little behind its end, where nothing is cut.
        for len in 0..length(&pki, inside, version, from) + 4 {
            cut(&pki, (inside, version, from), len);
        }
    }
}

#[test]
fn a_session_cut_off_after_whichever_byte_of_tls_1_3_is_truncated() {
    cut_everywhere(Inside::None, Version::Tls13);
}

#[test]
fn a_session_cut_off_after_whichever_byte_of_tls_1_2_is_truncated() {
    cut_everywhere(Inside::None, Version::Tls12);
}

#[test]
fn a_mutual_session_cut_off_after_whichever_byte_is_truncated() {
    cut_everywhere(Inside::Untagged, Version::Tls13);
}

/// Where in its record byte `at` of `records` is.
fn offset(mut records: &[u8], mut at: usize) -> usize {
    loop {
        let len = 5 + usize::from(u16::from_be_bytes([records[3], records[4]]));
        if at < len {
            return at;
        }
        (records, at) = (&records[len..], at - len);
    }
}

/// A session in which a bit of byte `at` from `from` is flipped on the way.
fn flip(pki: &Pki, version: Version, from: Role, at: usize) {
    let what = format!("{version:?} {from:?} {at}");
    let mut wire = Wire::new(pki.link(Inside::None, version), from);
    let mut flipped = None;
    wire.session(&mut |before, bytes| {
        let at = at.checked_sub(before).filter(|&at| at < bytes.len());
        if let Some(at) = at {
            flipped = Some(offset(bytes, at));
            bytes[at] ^= 1 << (at % 8);
        }
    });
    let Some(offset) = flipped else { return };
    let Link { client, server, .. } = &mut wire.link;
    for end in [&mut *client, server] {
        if end.over.is_none() && !end.established {
            // It waits for more, and not for long.
            end.at(5);
        } else if end.over.is_none() {
            end.ends();
            end.poll();
        }
    }
    assert!(WHOLE[0].starts_with(&server.heard) && WHOLE[1].starts_with(&client.heard), "{what}");
    // The version in a record's header says nothing, nor in TLS 1.3 does the type: its own is inside.
    let all_is_well = [client.over, server.over] == [Some(Ok(())); 2];
    assert!(!all_is_well || matches!(offset, 0..=2), "{what}, {offset}: nobody noticed");
}

fn flip_everywhere(version: Version) {
    let pki = Pki::new();
    for from in [Role::Client, Role::Server] {
        for at in 0..length(&pki, Inside::None, version, from) {
            flip(&pki, version, from, at);
        }
    }
}

#[test]
fn a_bit_changed_in_whichever_byte_of_tls_1_3_is_no_message_and_no_end() {
    flip_everywhere(Version::Tls13);
}

#[test]
fn a_bit_changed_in_whichever_byte_of_tls_1_2_is_no_message_and_no_end() {
    flip_everywhere(Version::Tls12);
}
