//! Peers and applications that are slow, or stand still.

use countersign::{Error, Role, SendError, TimedOut};

use crate::common::{End, Inside, Link};
use crate::versions::{Pki, Version};

/// More than all buffers of an end together, in bytes: a record that was read, one that was decrypted,
/// and what a session keeps to receive and to send.
const BUFFERS: usize = 100 << 10;

/// Everyone, in either version.
fn each(check: impl Fn(Inside, Link)) {
    let pki = Pki::new();
    for version in Version::ALL {
        for inside in Inside::ALL {
            let mut link = pki.link(inside, version);
            link.run();
            assert!(link.is_open(), "{inside:?} {version:?}");
            check(inside, link);
        }
    }
}

/// Has the client say as much as it can of what `rounds` hold, and the server hear what it takes. How
/// many bytes it took.
fn pour(link: &mut Link, wire: &mut Vec<u8>, said: &mut Vec<u8>, rounds: usize) -> usize {
    let mut taken = 0;
    for round in 0..rounds {
        let message = [b'a' + (round % 26) as u8; 1000];
        match link.client.out().send(&message) {
            Ok(()) => said.extend(message),
            Err(SendError::Full) => {}
            Err(error) => panic!("{error}"),
        }
        link.client.poll();
        wire.extend(link.client.said(usize::MAX));
        let n = link.server.hears(wire);
        wire.drain(..n);
        taken += n;
        link.server.poll();
        // It would say this, and nobody takes it.
        let _ = link.server.machine.poll_transmit(link.server.now);
    }
    taken
}

#[test]
fn an_application_that_is_slow_stops_its_peer_and_loses_nothing() {
    each(|inside, mut link| {
        link.server.holds = true;
        let (mut wire, mut said) = (Vec::new(), Vec::new());
        let taken = pour(&mut link, &mut wire, &mut said, 1000);
        assert!(taken < BUFFERS, "{inside:?} took {taken} bytes");
        assert!(!link.server.machine.wants_read(), "{inside:?}");
        link.server.holds = false;
        link.server.go_on();
        loop {
            link.server.poll();
            let n = link.server.hears(&wire);
            wire.drain(..n);
            let answer = link.server.said(usize::MAX);
            let mut answer = &answer[..];
            let moved = n > 0 || !answer.is_empty();
            while !answer.is_empty() {
                answer = &answer[link.client.hears(answer)..];
                link.client.poll();
            }
            if !moved {
                break;
            }
        }
        link.run();
        assert!(link.server.heard == said, "{inside:?}");
        assert!(link.client.heard == said.to_ascii_uppercase(), "{inside:?}");
    });
}

#[test]
fn a_peer_that_never_reads_is_borne_with_for_so_much_and_so_long() {
    each(|inside, mut link| {
        // Nothing that the server says leaves.
        let (mut wire, mut said) = (Vec::new(), Vec::new());
        let taken = pour(&mut link, &mut wire, &mut said, 1000);
        assert!(taken < BUFFERS, "{inside:?} took {taken} bytes");
        assert!(!link.server.machine.wants_read(), "{inside:?}");
        link.server.at(31);
        let late = link.server.error();
        assert!(matches!(late, Error::TimedOut(TimedOut::Send)), "{inside:?}: {late:?}");
        link.server.at(62);
        assert!(link.server.machine.is_done(), "{inside:?}");
    });
}

#[test]
fn a_handshake_at_a_byte_a_second_is_over_at_its_deadline() {
    let pki = Pki::new();
    for version in Version::ALL {
        for inside in Inside::ALL {
            for role in [Role::Client, Role::Server] {
                let mut link = pki.link(inside, version);
                let hello = link.client.said(usize::MAX);
                let (end, bytes): (&mut End, _) = match role {
                    Role::Server => (&mut link.server, hello),
                    Role::Client => {
                        link.server.hears(&hello);
                        link.server.poll();
                        let flight = link.server.said(usize::MAX);
                        (&mut link.client, flight)
                    }
                };
                for (second, byte) in bytes.iter().enumerate().take(5) {
                    end.at(second as u64);
                    assert_eq!(end.hears(&[*byte]), 1);
                    end.poll();
                    assert!(end.over.is_none());
                }
                end.at(5);
                assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake), "{inside:?}");
            }
        }
    }
}

/// It is in no buffer of the session's: only TLS knows of it.
#[test]
fn a_record_at_a_byte_a_second_is_given_up_like_a_message_at_a_byte_a_second() {
    each(|inside, mut link| {
        link.client.out().send(&[b'x'; 1000]).unwrap();
        let record = link.client.said(usize::MAX);
        for (second, byte) in record.iter().enumerate().take(32) {
            link.server.at(second as u64);
            if link.server.over.is_some() {
                break;
            }
            assert_eq!(link.server.hears(&[*byte]), 1);
            link.server.poll();
        }
        assert_eq!(link.server.over, Some(Err(Error::TimedOut(TimedOut::Receive))), "{inside:?}");
    });
}

#[test]
fn a_refusal_inside_tls_is_heard_before_the_end() {
    let pki = Pki::new();
    for version in Version::ALL {
        let mut link = pki.link(Inside::Mutual, version);
        link.client.secret = b"another key than that of the server";
        link.run();
        assert_eq!(link.server.error(), Error::WrongKey);
        // Its alert, and TLS's end behind it.
        let refused = Error::Alert(countersign::Alert::Refused);
        assert_eq!(link.client.error(), refused, "{version:?}");
        assert!(link.server.machine.is_done() && link.server.machine.wants_shutdown());
    }
}
