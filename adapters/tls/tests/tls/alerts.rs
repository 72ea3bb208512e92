//! The alerts of connections that fail, and failures that send none.

use std::sync::Arc;

use countersign::{CloseReason, Error, TimedOut, Truncated};
use countersign_tls::TlsError;
use rustls::{AlertDescription, Connection, ServerConnection};

use crate::endpoint::Endpoint;
use crate::inner::Inner;
use crate::pki::{Pki, Version};
use crate::rustls_peer::{client, receive, transmit};

/// The output that remains of a failed endpoint. All of it must leave before the shutdown.
fn final_output(endpoint: &mut Endpoint) -> Vec<u8> {
    let mut output = Vec::new();
    while !endpoint.protocol.wants_shutdown() {
        assert!(!endpoint.protocol.is_done() && endpoint.protocol.wants_write());
        output.extend(endpoint.transmit_at_most(1));
    }
    assert!(endpoint.protocol.is_done() && endpoint.transmit().is_empty());
    output
}

/// The record of an unencrypted fatal alert.
fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

#[test]
fn handshake_alert_is_sent_before_shutdown() {
    let pki = Pki::new();
    let mut hello = transmit(&mut client(&Arc::new(pki.client_config(Version::Tls12))).into());
    let refused = |bytes: &[u8], error: TlsError, code: u8| {
        let mut server = Endpoint::new(pki.server(Inner::None, Version::Tls13));
        server.receive_all(bytes);
        assert_eq!(server.error(), Error::from(error));
        assert_eq!(final_output(&mut server), alert(code));
    };
    let (protocol_version, decode_error) = (70, 50);
    refused(&hello, TlsError::Incompatible, protocol_version);
    refused(b"GET / HTTP/1.1\r\n\r\n", TlsError::Broken, decode_error);
    // The length of the session id exceeds 32.
    hello[5 + 4 + 2 + 32] = 0xff;
    refused(&hello, TlsError::Broken, decode_error);
}

#[test]
fn certificate_alert_is_sent_before_shutdown() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    for version in Version::ALL {
        // A client of ours, and a server by rustls alone with a certificate that it does not trust.
        let mut endpoint = Endpoint::new(ours.client(Inner::None, version));
        let config = Arc::new(theirs.server_config(version));
        let mut tls = ServerConnection::new(config).unwrap().into();
        receive(&mut tls, &endpoint.transmit());
        endpoint.receive_all(&transmit(&mut tls));
        assert_eq!(endpoint.error(), Error::from(TlsError::Untrusted));
        assert_peer_gets_alert(&mut endpoint, &mut tls, version);

        // A server of ours, and a client by rustls alone that trusts it, but is not trusted by it.
        let mut endpoint = Endpoint::new(ours.server(Inner::None, version));
        let mut tls = client(&Arc::new(theirs.untrusted_client_config(&ours, version))).into();
        while endpoint.result.is_none() {
            endpoint.receive_all(&transmit(&mut tls));
            if endpoint.result.is_none() {
                receive(&mut tls, &endpoint.transmit());
            }
        }
        assert_eq!(endpoint.error(), Error::from(TlsError::Untrusted));
        assert_peer_gets_alert(&mut endpoint, &mut tls, version);
    }
}

/// The peer of `endpoint` receives decrypt_error: its certificate's issuer has a trusted CA's name, but
/// not its key. In TLS 1.2 the alert is not encrypted yet.
fn assert_peer_gets_alert(endpoint: &mut Endpoint, tls: &mut Connection, version: Version) {
    let output = final_output(endpoint);
    assert_eq!(output[0] == 21, version == Version::Tls12, "{output:?}");
    tls.read_tls(&mut &output[..]).unwrap();
    let received = tls.process_new_packets();
    assert_eq!(received, Err(rustls::Error::AlertReceived(AlertDescription::DecryptError)));
}

/// rustls sends no alert for a timeout or an abort, and close_notify would mean an intended end.
#[test]
fn abandoned_handshake_sends_no_alert() {
    let time_out = |endpoint: &mut Endpoint| {
        endpoint.set_time(5);
        assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
    };
    let abort = |endpoint: &mut Endpoint| {
        let now = endpoint.now;
        endpoint.protocol.abort(CloseReason::Shutdown, now);
        // Nor is anything sent before the error is polled.
        assert!(endpoint.transmit().is_empty());
        endpoint.poll();
        assert_eq!(endpoint.error(), Error::Aborted(CloseReason::Shutdown));
    };
    let pki = Pki::new();
    let hello = |inner, version| pki.link(inner, version).client.transmit();
    // The server has received nothing, half of the ClientHello, or all of it.
    let receive_halves = |hello: &[u8], server: &mut Endpoint, halves: usize| {
        server.receive_all(&hello[..hello.len() * halves / 2]);
        assert_eq!(server.transmit().is_empty(), halves < 2);
    };
    for version in Version::ALL {
        for inner in Inner::ALL {
            for abandon in [&time_out as &dyn Fn(&mut Endpoint), &abort] {
                let mut client = Endpoint::new(pki.client(inner, version));
                assert!(!client.transmit().is_empty());
                abandon(&mut client);
                assert!(final_output(&mut client).is_empty(), "{inner:?} {version:?}");
                for halves in 0..=2 {
                    let mut server = Endpoint::new(pki.server(inner, version));
                    receive_halves(&hello(inner, version), &mut server, halves);
                    abandon(&mut server);
                    assert!(final_output(&mut server).is_empty(), "{inner:?} {version:?} {halves}");
                }
            }
        }
    }
}

#[test]
fn aborted_session_sends_no_close_notify() {
    let pki = Pki::new();
    for version in Version::ALL {
        for inner in Inner::ALL {
            let mut link = pki.link(inner, version);
            link.run();
            let now = link.server.now;
            link.server.protocol.abort(CloseReason::Shutdown, now);
            // Sent before the error is polled.
            let output = link.server.transmit();
            link.client.receive_all(&output);
            link.run();
            let has_close_frame = matches!(inner, Inner::Mutual | Inner::Untagged);
            let expected = match has_close_frame {
                true => Error::PeerClosed(CloseReason::Shutdown),
                false => Error::Truncated(Truncated::Stream),
            };
            assert_eq!(link.client.error(), expected, "{inner:?} {version:?}");
            assert!(!link.client.peer_finished);
        }
    }
}
