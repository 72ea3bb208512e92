//! Peers and applications that are slow, or stand still.

use countersign::{Error, Role, SendError, TimedOut};

use crate::ends::{End, Inside, Link};
use crate::pki::{Pki, Version};

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
fn who_stops_within_a_record_while_nobody_reads_has_thirty_seconds_once_somebody_would() {
    each(|inside, mut link| {
        link.server.holds = true;
        let mut wire = Vec::new();
        while link.server.machine.wants_read() {
            let _ = link.client.out().send(&[b'a'; 1000]);
            link.client.poll();
            wire.extend(link.client.said(usize::MAX));
            // The last byte of a record is still to come.
            let n = link.server.hears(&wire[..wire.len() - 1]);
            wire.drain(..n);
            link.server.poll();
        }
        assert!(link.server.machine.recv_space().is_empty(), "{inside:?}");
        link.server.holds = false;
        link.server.go_on();
        // What was read is dealt with, and what is not read there is no more of.
        loop {
            link.server.poll();
            if link.server.said(usize::MAX).is_empty() {
                break;
            }
        }
        assert!(link.server.machine.wants_read() && !link.server.machine.is_idle(), "{inside:?}");
        link.server.at(31);
        let late = link.server.error();
        assert!(matches!(late, Error::TimedOut(TimedOut::Receive)), "{inside:?}: {late:?}");
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
fn the_handshake_has_one_deadline_tls_included_however_its_bytes_drip() {
    let pki = Pki::new();
    for version in Version::ALL {
        for inside in Inside::ALL {
            for role in [Role::Client, Role::Server] {
                let mut link = pki.link(inside, version);
                let hello = link.client.said(usize::MAX);
                let (end, bytes): (&mut End, _) = match role {
                    Role::Server => (&mut link.server, hello),
                    Role::Client => {
                        link.server.hears_all(&hello);
                        let flight = link.server.said(usize::MAX);
                        (&mut link.client, flight)
                    }
                };
                for (second, byte) in bytes.iter().enumerate().take(5) {
                    end.at(second as u64);
                    assert_eq!(end.hears(&[*byte]), 1);
                    end.poll();
                    assert!(end.over.is_none());
                    assert_eq!(end.machine.poll_timeout().unwrap().as_micros(), 5_000_000);
                }
                end.at(5);
                assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake), "{inside:?}");
                // Not a word, and no close_notify either.
                assert!(end.said(usize::MAX).is_empty(), "{inside:?} {version:?} {role:?}");
                assert!(end.machine.is_done() && end.machine.wants_shutdown());
            }
        }
    }
}

/// It is in no buffer of the session's: only TLS knows of it.
#[test]
fn half_a_record_has_thirty_seconds_however_its_bytes_drip_and_is_not_idle() {
    each(|inside, mut link| {
        let server = &mut link.server;
        let mut said = || {
            link.client.out().send(&[b'x'; 1000]).unwrap();
            link.client.said(usize::MAX)
        };
        let (first, second) = (said(), said());
        // One that is whole in time has had its own.
        let (most, last) = first.split_at(first.len() - 1);
        server.hears_all(most);
        assert_eq!(server.machine.poll_timeout().unwrap().as_micros(), 30_000_000);
        server.at(29);
        server.hears_all(last);
        assert_eq!(server.heard.len(), 1000, "{inside:?}");
        server.said(usize::MAX);
        assert!(server.machine.is_idle() && server.machine.poll_timeout().is_none(), "{inside:?}");

        for (byte, second) in second.iter().zip(29..59) {
            server.at(second);
            assert_eq!(server.hears(&[*byte]), 1);
            server.poll();
            assert_eq!(server.machine.poll_timeout().unwrap().as_micros(), 59_000_000);
            assert!(!server.machine.is_idle() && server.machine.is_receiving());
            assert!(server.over.is_none());
        }
        server.at(59);
        assert_eq!(server.error(), Error::TimedOut(TimedOut::Receive), "{inside:?}");
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
