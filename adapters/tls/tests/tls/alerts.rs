//! What a connection that fails still says, and when it says nothing.

use std::sync::Arc;

use countersign::{CloseReason, Error, TimedOut, Truncated};
use countersign_tls::TlsError;
use rustls::{AlertDescription, Connection, ServerConnection};

use crate::ends::{End, Inside};
use crate::peer::{client, hears, said};
use crate::pki::{Pki, Version};

/// The last word of an end that has failed, which is to leave whole before the transport is shut.
fn last_word(end: &mut End) -> Vec<u8> {
    let mut word = Vec::new();
    while !end.machine.wants_shutdown() {
        assert!(!end.machine.is_done() && end.machine.wants_write());
        word.extend(end.said(1));
    }
    assert!(end.machine.is_done() && end.said(usize::MAX).is_empty());
    word
}

/// The record of a fatal alert before there are keys.
fn alert(number: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, number]
}

#[test]
fn what_a_stranger_is_refused_for_leaves_before_the_end_of_the_stream() {
    let pki = Pki::new();
    let mut hello = said(&mut client(&Arc::new(pki.client_config(Version::Tls12))).into());
    let refused = |bytes: &[u8], why: TlsError, number: u8| {
        let mut server = End::new(pki.server(Inside::None, Version::Tls13));
        server.hears_all(bytes);
        assert_eq!(server.error(), Error::from(why));
        assert_eq!(last_word(&mut server), alert(number));
    };
    let (protocol_version, decode_error) = (70, 50);
    refused(&hello, TlsError::Incompatible, protocol_version);
    refused(b"GET / HTTP/1.1\r\n\r\n", TlsError::Broken, decode_error);
    // A session id that is longer than may be.
    hello[5 + 4 + 2 + 32] = 0xff;
    refused(&hello, TlsError::Broken, decode_error);
}

#[test]
fn what_is_wrong_with_a_certificate_leaves_before_the_end_of_the_stream() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    for version in Version::ALL {
        // A client of ours, and a server by rustls alone that shows what it does not trust.
        let mut end = End::new(ours.client(Inside::None, version));
        let config = Arc::new(theirs.server_config(version));
        let mut tls = ServerConnection::new(config).unwrap().into();
        hears(&mut tls, &end.said(usize::MAX));
        end.hears_all(&said(&mut tls));
        assert_eq!(end.error(), Error::from(TlsError::Untrusted));
        told(&mut end, &mut tls, version);

        // And the other way round: it knows the server, and not the other way.
        let mut end = End::new(ours.server(Inside::None, version));
        let mut tls = client(&Arc::new(theirs.stranger_to(&ours, version))).into();
        while end.over.is_none() {
            end.hears_all(&said(&mut tls));
            if end.over.is_none() {
                hears(&mut tls, &end.said(usize::MAX));
            }
        }
        assert_eq!(end.error(), Error::from(TlsError::Untrusted));
        told(&mut end, &mut tls, version);
    }
}

/// The peer of `end` hears that its certificate's signature is wrong, by a CA of the right name; in the
/// clear if there are no keys yet.
fn told(end: &mut End, tls: &mut Connection, version: Version) {
    let word = last_word(end);
    assert_eq!(word[0] == 21, version == Version::Tls12, "{word:?}");
    tls.read_tls(&mut &word[..]).unwrap();
    let heard = tls.process_new_packets();
    assert_eq!(heard, Err(rustls::Error::AlertReceived(AlertDescription::DecryptError)));
}

/// TLS has no alert for it that rustls would send, and close_notify is for ends that were meant.
#[test]
fn a_handshake_that_is_given_up_ends_without_a_word() {
    let late = |end: &mut End| {
        end.at(5);
        assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
    };
    let stopped = |end: &mut End| {
        let now = end.now;
        end.machine.abort(CloseReason::Shutdown, now);
        // Not before it was asked either.
        assert!(end.said(usize::MAX).is_empty());
        end.poll();
        assert_eq!(end.error(), Error::Aborted(CloseReason::Shutdown));
    };
    let pki = Pki::new();
    let hello = |inside, version| pki.link(inside, version).client.said(usize::MAX);
    // Nothing yet, half a hello, and all of it.
    let told = |hello: &[u8], server: &mut End, how: usize| {
        server.hears_all(&hello[..hello.len() * how / 2]);
        assert_eq!(server.said(usize::MAX).is_empty(), how < 2);
    };
    for version in Version::ALL {
        for inside in Inside::ALL {
            for give_up in [&late as &dyn Fn(&mut End), &stopped] {
                let mut client = End::new(pki.client(inside, version));
                assert!(!client.said(usize::MAX).is_empty());
                give_up(&mut client);
                assert!(last_word(&mut client).is_empty(), "{inside:?} {version:?}");
                for how in 0..=2 {
                    let mut server = End::new(pki.server(inside, version));
                    told(&hello(inside, version), &mut server, how);
                    give_up(&mut server);
                    assert!(last_word(&mut server).is_empty(), "{inside:?} {version:?} {how}");
                }
            }
        }
    }
}

#[test]
fn an_end_that_fails_says_no_close_notify_whoever_asks_first() {
    let pki = Pki::new();
    for version in Version::ALL {
        for inside in Inside::ALL {
            let mut link = pki.link(inside, version);
            link.run();
            let now = link.server.now;
            link.server.machine.abort(CloseReason::Shutdown, now);
            let said = link.server.said(usize::MAX);
            link.client.hears_all(&said);
            link.run();
            let told = matches!(inside, Inside::Mutual | Inside::Untagged);
            let expected = match told {
                true => Error::PeerClosed(CloseReason::Shutdown),
                false => Error::Truncated(Truncated::Stream),
            };
            assert_eq!(link.client.error(), expected, "{inside:?} {version:?}");
            assert!(!link.client.finished);
        }
    }
}
