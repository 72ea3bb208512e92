//! Sessions of two endpoints inside TLS.

use countersign::{Error, Remaining, TimedOut, Truncated};
use countersign_tls::TlsError;

use crate::inner::Inner;
use crate::link::Link;

#[test]
fn every_scheme_works_inside_tls_with_any_chunking() {
    for inner in Inner::ALL {
        for chunk in [1, 7, 1000, usize::MAX] {
            let mut link = Link::with_shared_ca(inner);
            link.max_chunk = chunk;
            link.run();
            assert!(link.is_established(), "{inner:?} {chunk}");
            for endpoint in [&link.client, &link.server] {
                assert!(endpoint.protocol.peer().unwrap().authenticated, "{inner:?}");
                assert!(endpoint.protocol.is_idle(), "{inner:?}");
            }
            link.client.outbox().send(b"hello").unwrap();
            link.run();
            assert_eq!(link.client.received, b"HELLO", "{inner:?} {chunk}");
            link.client.protocol.finish(link.client.now);
            link.run();
            assert_eq!(link.client.result, Some(Ok(())), "{inner:?} {chunk}");
            assert_eq!(link.server.result, Some(Ok(())), "{inner:?} {chunk}");
            assert!(link.client.protocol.is_done() && link.server.protocol.is_done());
        }
    }
}

#[test]
fn long_messages_are_echoed_whole() {
    for inner in Inner::ALL {
        let mut link = Link::with_shared_ca(inner);
        link.run();
        let message: Vec<u8> = (0..300_000_u32).map(|i| b'a' + (i % 26) as u8).collect();
        let mut unsent = &message[..];
        while !unsent.is_empty() {
            let mut outbox = link.client.outbox();
            let (chunk, rest) = unsent.split_at(unsent.len().min(outbox.max_chunk()));
            let remaining =
                if rest.is_empty() { Remaining::End } else { Remaining::Bytes(rest.len() as u64) };
            match outbox.send_chunk(chunk, remaining) {
                Ok(()) => unsent = rest,
                Err(countersign::SendError::Full) => link.run(),
                Err(error) => panic!("{error}"),
            }
        }
        link.run();
        assert_eq!(link.client.received, message.to_ascii_uppercase(), "{inner:?}");
    }
}

#[test]
fn only_tls_records_are_sent_during_its_handshake() {
    let mut link = Link::with_shared_ca(Inner::None);
    let mut hello = link.client.transmit();
    // A handshake record with a ClientHello.
    assert_eq!((hello[0], hello[5]), (22, 1));
    assert!(link.server.transmit().is_empty());
    hello.truncate(hello.len() / 2);
    link.server.receive(&hello);
    link.server.poll();
    assert!(!link.server.established && link.server.result.is_none());
    assert!(link.server.transmit().is_empty());
}

#[test]
fn eof_without_close_notify_is_truncation() {
    for inner in Inner::ALL {
        let mut in_handshake = Link::with_shared_ca(inner);
        in_handshake.server.receive_eof();
        in_handshake.server.poll();
        assert_eq!(
            in_handshake.server.error(),
            Error::Truncated(Truncated::Handshake),
            "{inner:?}"
        );

        let mut between_messages = Link::with_shared_ca(inner);
        between_messages.run();
        between_messages.server.receive_eof();
        between_messages.server.poll();
        assert_eq!(
            between_messages.server.error(),
            Error::Truncated(Truncated::Stream),
            "{inner:?}"
        );
        assert!(
            between_messages.server.received.is_empty() && !between_messages.server.peer_finished
        );
    }
    let mut in_message = Link::with_shared_ca(Inner::None);
    in_message.run();
    in_message.client.outbox().send_chunk(b"half", Remaining::Bytes(4)).unwrap();
    in_message.run();
    in_message.server.receive_eof();
    in_message.server.poll();
    assert_eq!(in_message.server.error(), Error::Truncated(Truncated::Message));
}

#[test]
fn garbage_is_answered_with_a_tls_alert() {
    let mut link = Link::with_shared_ca(Inner::Mutual);
    link.server.receive(b"GET / HTTP/1.1\r\n\r\n");
    link.server.poll();
    assert_eq!(link.server.error(), Error::from(TlsError::Broken));
    // A record of type alert.
    assert_eq!(link.server.transmit()[0], 21);
    assert!(link.server.protocol.is_done());
}

#[test]
fn modified_record_ends_both_endpoints() {
    for inner in Inner::ALL {
        let mut link = Link::with_shared_ca(inner);
        link.run();
        link.client.outbox().send(b"hello").unwrap();
        let mut record = link.client.transmit();
        *record.last_mut().unwrap() ^= 1;
        link.server.receive(&record);
        link.server.poll();
        assert_eq!(link.server.error(), Error::from(TlsError::Broken), "{inner:?}");
        assert!(link.server.received.is_empty());
        // The client receives bad_record_mac: nothing of the inner protocol is sent after the error.
        link.run();
        assert_eq!(link.client.error(), Error::from(TlsError::Alert(20)), "{inner:?}");
    }
}

#[test]
fn unread_alert_is_dropped_after_one_second() {
    let mut link = Link::with_shared_ca(Inner::Mutual);
    link.server.receive(b"garbage, and more of it");
    link.server.poll();
    assert!(link.server.protocol.wants_write() && !link.server.protocol.is_done());
    assert!(!link.server.protocol.poll_transmit(link.server.now).is_empty());
    link.server.set_time(1);
    assert!(link.server.protocol.is_done() && !link.server.protocol.wants_write());
}

#[test]
fn failed_session_sends_no_close_notify() {
    let mut link = Link::with_shared_ca(Inner::None);
    link.run();
    // Longer than the server allows.
    link.client.outbox().send_chunk(b"x", Remaining::Bytes(u64::from(u32::MAX) - 1)).unwrap();
    link.run();
    assert_eq!(link.server.error(), Error::FrameTooLong { len: u64::from(u32::MAX) });
    assert!(link.server.protocol.is_done() && link.server.protocol.wants_shutdown());
    assert_eq!(link.client.error(), Error::Truncated(Truncated::Stream));
}

#[test]
fn directions_end_independently_inside_tls() {
    let mut link = Link::with_shared_ca(Inner::Raw);
    link.server.answers = false;
    link.run();
    link.client.protocol.finish(link.client.now);
    link.run();
    assert!(link.server.peer_finished && link.server.result.is_none());
    link.server.outbox().send(b"still here").unwrap();
    link.run();
    assert_eq!(link.client.received, b"still here");
    link.server.protocol.finish(link.server.now);
    link.run();
    assert_eq!((link.client.result, link.server.result), (Some(Ok(())), Some(Ok(()))));
}

#[test]
fn bytes_in_flight_are_not_idle_and_time_out() {
    let mut link = Link::with_shared_ca(Inner::None);
    link.run();
    link.client.outbox().send(b"hello").unwrap();
    assert!(link.client.transmit_at_most(3).len() == 3 && !link.client.protocol.is_idle());
    // The rest of the record has not left in time.
    link.client.set_time(31);
    assert_eq!(link.client.error(), Error::TimedOut(TimedOut::Send));
    link.client.set_time(32);
    assert!(link.client.protocol.is_done());
}
