//! Identity: sessions with oneself, with the wrong peer, in the wrong role, over another channel,
//! with another key; and what a refusal reveals.

use std::time::Duration;

use countersign::{Alert, Error, IdentityError, Key, KeyRejection, Protocol, Role};

use crate::endpoint::{Endpoint, Handshake, alert, pair, run_handshake};
use crate::party::{OTHER, Party, SECRET};

/// Runs a handshake that must fail, and returns both endpoints.
fn run_failing_handshake(client: &Party, server: &Party) -> (Endpoint, Endpoint, Handshake) {
    let (mut client, mut server) = (client.start(), server.start());
    let handshake = run_handshake(&mut client, &mut server);
    assert!(!client.is_established() && !server.is_established());
    (client, server, handshake)
}

/// Requires that the server refuses for the reason `why` and sends only that it refuses.
fn assert_server_refuses(client: &Party, server: &Party, why: Error) {
    let (client, server, handshake) = run_failing_handshake(client, server);
    assert_eq!(server.error, Some(why));
    assert!(why.is_authentication_failure());
    assert_eq!(handshake.m3, alert(1));
    assert_eq!(client.error, Some(Error::Alert(Alert::Refused)));
}

#[test]
fn server_refuses_a_client_of_its_own_process() {
    let me = Party { name: "carol", process_id: b'c', ..Party::client() };
    let server = Party { name: "dave", process_id: b'c', ..Party::server() };
    assert_server_refuses(&me, &server, Error::Identity(IdentityError::SameProcess));
    // If the names are equal too, they are compared first.
    let server = Party { name: "carol", ..server };
    assert_server_refuses(&me, &server, Error::Identity(IdentityError::SameName));
}

#[test]
fn server_refuses_a_client_of_its_own_name() {
    let client = Party { name: "carol", process_id: b'c', ..Party::client() };
    let server = Party { name: "carol", process_id: b'd', ..Party::server() };
    assert_server_refuses(&client, &server, Error::Identity(IdentityError::SameName));
    // Expecting one's own name does not avoid the check.
    let client = Party { expected: Some("carol"), ..client };
    assert_server_refuses(&client, &server, Error::Identity(IdentityError::SameName));
}

#[test]
fn server_refuses_a_client_that_expects_another_name() {
    let client = Party { expected: Some("bob"), ..Party::client() };
    pair(&client, &Party::server());
    // Names with a common prefix or another case are different names.
    for name in ["mallory", "bo", "bobb", "Bob"] {
        assert_server_refuses(
            &client,
            &Party { name, ..Party::server() },
            Error::Identity(IdentityError::WrongServer),
        );
    }
}

#[test]
fn client_refuses_a_server_name_not_allowed_for_its_key() {
    let client = Party { name_allowed: false, ..Party::client() };
    let (mut client, mut server) = (client.start(), Party::server().start());
    let m2 = client.answer(&server.output());
    // The server does not know the client's keys. The client's first key request carries no name.
    let m3 = server.answer(&m2);
    assert!(server.is_established());
    assert_eq!(client.answer(&m3), b"");
    assert_eq!(client.error, Some(Error::Identity(IdentityError::NameNotAllowed)));
    assert!(!client.is_established());
}

/// An attacker who tries key ids or names learns nothing: all refusals are equal.
#[test]
fn every_refusal_by_the_server_has_the_same_bytes() {
    let (alice, bob) = (Party::client(), Party::server());
    let refuse = |why| Party { secrets: Err(why), ..bob };
    let cases = [
        (alice, refuse(KeyRejection::Unknown), Error::Refused(KeyRejection::Unknown)),
        (alice, refuse(KeyRejection::OutOfDate), Error::Refused(KeyRejection::OutOfDate)),
        (alice, refuse(KeyRejection::WrongRole), Error::Refused(KeyRejection::WrongRole)),
        (Party { key_id: "k2", ..alice }, bob, Error::Refused(KeyRejection::Unknown)),
        (Party { secrets: Ok(&[OTHER]), ..alice }, bob, Error::WrongKey),
        (
            alice,
            Party { name_allowed: false, ..bob },
            Error::Identity(IdentityError::NameNotAllowed),
        ),
        (Party { name: "bob", ..alice }, bob, Error::Identity(IdentityError::SameName)),
        (
            Party { expected: Some("eve"), ..alice },
            bob,
            Error::Identity(IdentityError::WrongServer),
        ),
        (Party { process_id: b'b', ..alice }, bob, Error::Identity(IdentityError::SameProcess)),
    ];
    for (client, server, why) in cases {
        let (mut client, mut server) = (client.start(), server.start());
        let m2 = client.answer(&server.output());
        // The refusal follows the same byte, and the server reads nothing after it.
        assert_eq!(server.answer(&m2[..m2.len() - 1]), b"", "{why:?}");
        assert_eq!(server.answer(&m2[m2.len() - 1..]), alert(1), "{why:?}");
        assert_eq!(server.error, Some(why));
        assert_eq!(server.feed(b"more"), 0);
        assert!(server.session.is_done() && server.session.wants_shutdown());
        assert_eq!(server.session.poll_timeout(), None);
        // The server requests a key once, whether the key id is known or not.
        assert_eq!(server.events.len(), 1);
    }
}

#[test]
fn client_sends_no_proof_with_a_key_for_servers() {
    let client = Party { secrets: Err(KeyRejection::WrongRole), ..Party::client() };
    let mut client = client.start();
    assert_eq!(client.answer(&Party::server().start().output()), b"");
    assert_eq!(client.error, Some(Error::Refused(KeyRejection::WrongRole)));
}

#[test]
fn endpoints_with_the_same_role_refuse_each_other() {
    let (mut first, mut second) = (Party::server().start(), Party::server().start());
    let (to_second, to_first) = (first.output(), second.output());
    for (server, m1) in [(&mut first, to_first), (&mut second, to_second)] {
        assert_eq!(server.answer(&m1), alert(4));
        assert_eq!(server.error, Some(Error::Malformed));
    }
    // Two clients both wait for M1.
    let (mut client, mut server) = (Party::client().start(), Party::server().start());
    let m2 = client.answer(&server.output());
    let mut other = Party { nonce: 0xa2, ..Party::client() }.start();
    assert_eq!(other.output(), b"");
    assert_eq!(other.answer(&m2), b"");
    assert_eq!(other.error, Some(Error::Malformed));
}

#[test]
fn endpoints_on_different_channels_refuse_each_other() {
    let bound = |party, channel| Party { channel, ..party };
    // No channel differs from one whose exporter is all zeros.
    let channels = [None, Some(0), Some(1), Some(2)];
    for (up, down) in channels.into_iter().flat_map(|up| channels.map(|down| (up, down))) {
        let (client, server) = (bound(Party::client(), up), bound(Party::server(), down));
        if up == down {
            pair(&client, &server);
        } else {
            // A man in the middle of TLS, or an endpoint that is not aware of its TLS channel.
            assert_server_refuses(&client, &server, Error::WrongKey);
        }
    }
}

#[test]
fn endpoint_is_silent_until_bound_and_is_bound_once() {
    for party in [Party::client(), Party::server()] {
        let party = Party { channel: Some(1), ..party };
        let unbound = Party { channel: None, ..party };
        let mut end = Endpoint::new(&party.config(), party.role, party.nonce, unbound.keyring());
        assert!(!end.session.wants_read());
        assert_eq!(end.output(), b"");
        end.advance(Duration::from_secs(4));
        assert_eq!(end.output(), b"");
        for channel in [1, 2] {
            end.session.bind_channel(&[channel; 32], end.now);
        }
        let mut other = match party.role {
            Role::Client => Party { channel: Some(1), ..Party::server() },
            Role::Server => Party { channel: Some(1), ..Party::client() },
        }
        .start();
        match party.role {
            Role::Client => _ = run_handshake(&mut end, &mut other),
            Role::Server => _ = run_handshake(&mut other, &mut end),
        }
        assert!(end.is_established() && other.is_established());
        // The time before the binding counts towards the handshake's deadline.
        let mut late = Endpoint::new(&party.config(), party.role, party.nonce, unbound.keyring());
        late.advance(Duration::from_secs(5));
        assert!(late.session.is_done());
        assert_eq!(late.output(), b"");
    }
}

#[test]
fn either_of_two_keys_of_one_id_is_accepted_in_any_order() {
    let fingerprint = |secret| Key::mutual(secret).unwrap().fingerprint();
    let old = SECRET;
    let clients: [(&[&[u8]], _); 4] =
        [(&[SECRET], old), (&[OTHER], OTHER), (&[OTHER, SECRET], OTHER), (&[SECRET, OTHER], old)];
    for (secrets, proves) in clients {
        let client = Party { secrets: Ok(secrets), ..Party::client() };
        let servers: [&[&[u8]]; 2] = [&[SECRET, OTHER], &[OTHER, SECRET]];
        for secrets in servers {
            let (mut client, mut server, _) =
                pair(&client, &Party { secrets: Ok(secrets), ..Party::server() });
            for end in [&client, &server] {
                assert_eq!(end.session.peer().unwrap().fingerprint, fingerprint(proves));
            }
            assert_eq!(server.answer(&client.send(b"up")), b"");
            assert_eq!(client.answer(&server.send(b"down")), b"");
            assert_eq!(
                (&server.received, &client.received),
                (&vec![b"up".to_vec()], &vec![b"down".to_vec()])
            );
        }
        // A server without the new key accepts only the old one, so servers are rotated first.
        for (secret, known) in [(SECRET, &[SECRET]), (OTHER, &[OTHER])] {
            let server = Party { secrets: Ok(known), ..Party::server() };
            match secret == proves {
                true => _ = pair(&client, &server),
                false => assert_server_refuses(&client, &server, Error::WrongKey),
            }
        }
    }
}

#[test]
fn server_with_two_keys_refuses_a_third() {
    let client =
        Party { secrets: Ok(&[b"a secret that no server has any more"]), ..Party::client() };
    let server = Party { secrets: Ok(&[SECRET, OTHER]), ..Party::server() };
    assert_server_refuses(&client, &server, Error::WrongKey);
}
