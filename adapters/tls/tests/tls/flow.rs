//! Back-pressure and deadlines: slow peers, slow applications, and refusals.

use countersign::{Error, Role, SendError, TimedOut};

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::link::Link;
use crate::pki::{Pki, Version};

/// More bytes than all buffers of an endpoint hold: a received record, a decrypted one, and the session's
/// receive and send buffers.
const BUFFERS: usize = 100 << 10;

/// Runs `check` with an established link of every inner protocol and TLS version.
fn for_each_link(check: impl Fn(Inner, Link)) {
    let pki = Pki::new();
    for version in Version::ALL {
        for inner in Inner::ALL {
            let mut link = pki.link(inner, version);
            link.run();
            assert!(link.is_established(), "{inner:?} {version:?}");
            check(inner, link);
        }
    }
}

/// The client sends 1000 times, and the server's output never leaves.
/// Returns how many bytes the server read. `in_flight` gets those that it did not read, and `sent` the
/// content of all messages.
fn flood(link: &mut Link, in_flight: &mut Vec<u8>, sent: &mut Vec<u8>) -> usize {
    let mut read = 0;
    for round in 0..1000 {
        let message = [b'a' + (round % 26) as u8; 1000];
        match link.client.outbox().send(&message) {
            Ok(()) => sent.extend(message),
            Err(SendError::Full) => {}
            Err(error) => panic!("{error}"),
        }
        link.client.poll();
        in_flight.extend(link.client.transmit());
        let n = link.server.receive(in_flight);
        in_flight.drain(..n);
        read += n;
        link.server.poll();
        // Encrypts the pending output, of which nothing is transmitted.
        let _ = link.server.protocol.poll_transmit(link.server.now);
    }
    read
}

#[test]
fn slow_application_stops_its_peer_without_loss() {
    for_each_link(|inner, mut link| {
        link.server.paused = true;
        let (mut in_flight, mut sent) = (Vec::new(), Vec::new());
        let read = flood(&mut link, &mut in_flight, &mut sent);
        assert!(read < BUFFERS, "{inner:?} read {read} bytes");
        assert!(!link.server.protocol.wants_read(), "{inner:?}");
        link.server.resume();
        loop {
            link.server.poll();
            let n = link.server.receive(&in_flight);
            in_flight.drain(..n);
            let answer = link.server.transmit();
            let mut answer = &answer[..];
            let moved = n > 0 || !answer.is_empty();
            while !answer.is_empty() {
                answer = &answer[link.client.receive(answer)..];
                link.client.poll();
            }
            if !moved {
                break;
            }
        }
        link.run();
        assert!(link.server.received == sent, "{inner:?}");
        assert!(link.client.received == sent.to_ascii_uppercase(), "{inner:?}");
    });
}

#[test]
fn partial_record_times_out_30_s_after_reading_resumes() {
    for_each_link(|inner, mut link| {
        link.server.paused = true;
        let mut in_flight = Vec::new();
        while link.server.protocol.wants_read() {
            let _ = link.client.outbox().send(&[b'a'; 1000]);
            link.client.poll();
            in_flight.extend(link.client.transmit());
            // The last byte of a record never arrives.
            let n = link.server.receive(&in_flight[..in_flight.len() - 1]);
            in_flight.drain(..n);
            link.server.poll();
        }
        assert!(link.server.protocol.recv_space().is_empty(), "{inner:?}");
        link.server.resume();
        // The server handles what it has read; no more arrives.
        loop {
            link.server.poll();
            if link.server.transmit().is_empty() {
                break;
            }
        }
        assert!(link.server.protocol.wants_read() && !link.server.protocol.is_idle(), "{inner:?}");
        link.server.set_time(31);
        let error = link.server.error();
        assert!(matches!(error, Error::TimedOut(TimedOut::Receive)), "{inner:?}: {error:?}");
    });
}

#[test]
fn peer_that_never_reads_is_bounded_and_times_out() {
    for_each_link(|inner, mut link| {
        let (mut in_flight, mut sent) = (Vec::new(), Vec::new());
        let read = flood(&mut link, &mut in_flight, &mut sent);
        assert!(read < BUFFERS, "{inner:?} read {read} bytes");
        assert!(!link.server.protocol.wants_read(), "{inner:?}");
        link.server.set_time(31);
        let error = link.server.error();
        assert!(matches!(error, Error::TimedOut(TimedOut::Send)), "{inner:?}: {error:?}");
        link.server.set_time(62);
        assert!(link.server.protocol.is_done(), "{inner:?}");
    });
}

#[test]
fn one_deadline_covers_tls_and_session_handshakes() {
    let pki = Pki::new();
    for version in Version::ALL {
        for inner in Inner::ALL {
            for role in [Role::Client, Role::Server] {
                let mut link = pki.link(inner, version);
                let hello = link.client.transmit();
                let (endpoint, bytes): (&mut Endpoint, _) = match role {
                    Role::Server => (&mut link.server, hello),
                    Role::Client => {
                        link.server.receive_all(&hello);
                        let flight = link.server.transmit();
                        (&mut link.client, flight)
                    }
                };
                for (second, byte) in bytes.iter().enumerate().take(5) {
                    endpoint.set_time(second as u64);
                    assert_eq!(endpoint.receive(&[*byte]), 1);
                    endpoint.poll();
                    assert!(endpoint.result.is_none());
                    assert_eq!(endpoint.protocol.poll_timeout().unwrap().as_micros(), 5_000_000);
                }
                endpoint.set_time(5);
                assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake), "{inner:?}");
                // Neither an alert nor close_notify.
                assert!(endpoint.transmit().is_empty(), "{inner:?} {version:?} {role:?}");
                assert!(endpoint.protocol.is_done() && endpoint.protocol.wants_shutdown());
            }
        }
    }
}

/// Such a record is in no buffer of the session, only in TLS.
#[test]
fn partial_record_times_out_and_is_not_idle() {
    for_each_link(|inner, mut link| {
        let server = &mut link.server;
        let mut next_record = || {
            link.client.outbox().send(&[b'x'; 1000]).unwrap();
            link.client.transmit()
        };
        let (first, second) = (next_record(), next_record());
        // A record that is complete in time. The next one has a deadline of its own.
        let (most, last) = first.split_at(first.len() - 1);
        server.receive_all(most);
        assert_eq!(server.protocol.poll_timeout().unwrap().as_micros(), 30_000_000);
        server.set_time(29);
        server.receive_all(last);
        assert_eq!(server.received.len(), 1000, "{inner:?}");
        server.transmit();
        assert!(server.protocol.is_idle() && server.protocol.poll_timeout().is_none(), "{inner:?}");

        for (byte, second) in second.iter().zip(29..59) {
            server.set_time(second);
            assert_eq!(server.receive(&[*byte]), 1);
            server.poll();
            assert_eq!(server.protocol.poll_timeout().unwrap().as_micros(), 59_000_000);
            assert!(!server.protocol.is_idle() && server.protocol.is_receiving());
            assert!(server.result.is_none());
        }
        server.set_time(59);
        assert_eq!(server.error(), Error::TimedOut(TimedOut::Receive), "{inner:?}");
    });
}

#[test]
fn inner_refusal_arrives_before_the_end() {
    let pki = Pki::new();
    for version in Version::ALL {
        let mut link = pki.link(Inner::Mutual, version);
        link.client.secret = b"another key than that of the server";
        link.run();
        assert_eq!(link.server.error(), Error::WrongKey);
        // The refusal is sent first, then close of TLS.
        let refused = Error::Alert(countersign::Alert::Refused);
        assert_eq!(link.client.error(), refused, "{version:?}");
        assert!(link.server.protocol.is_done() && link.server.protocol.wants_shutdown());
    }
}
