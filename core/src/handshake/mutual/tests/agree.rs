//! Two ends that agree, or that something between them keeps from it.

use super::*;

/// Runs a handshake to its end; `None`: one of the two refused.
fn agreed(
    client: &config::Mutual,
    server: &config::Mutual,
    bindings: (Option<[u8; 32]>, Option<[u8; 32]>),
) -> Option<(HandshakeOutput, HandshakeOutput)> {
    let key = key(1);
    let (mut client, mut server) = (Side::client(client), Side::server(server));
    for (side, binding) in [(&mut client, bindings.0), (&mut server, bindings.1)] {
        if let Some(exporter) = binding {
            side.step(Input::Channel(&exporter)).unwrap();
        }
    }
    client.hears(&server.says()).ok()?;
    client.key(&key).ok()?;
    server.hears(&client.says()).ok()?;
    server.key(&key).ok()?;
    client.hears(&server.says()).ok()?;
    client.key(&key).ok()?;
    assert!(client.is_agreed() && server.is_agreed());
    Some((client.output()?, server.output()?))
}

#[test]
fn both_ends_know_the_same_of_each_other_and_of_the_session() {
    let client = client().with_key_id(KeyId::new("kid").unwrap());
    // A server's own id and a client's own heartbeat are of no account.
    let server =
        server().with_heartbeat(Duration::from_secs(7)).with_key_id(KeyId::new("other").unwrap());
    let (client, server) = agreed(&client, &server, (None, None)).unwrap();
    let sides = [(&client.peer, Role::Server, "server"), (&server.peer, Role::Client, "client")];
    for (known, role, name) in sides {
        let peer = known.peer(role);
        assert_eq!(peer.role, role);
        assert!(peer.authenticated);
        assert_eq!((peer.name, peer.key_id), (Some(name), Some("kid")));
        assert_eq!(peer.fingerprint, key(1).fingerprint());
    }
    let (a, b) = (client.peer.peer(Role::Server), server.peer.peer(Role::Client));
    assert!(a.session_id.is_some() && a.exporter.is_some());
    assert_eq!((a.session_id, a.exporter), (b.session_id, b.exporter));

    let heartbeats = (client.heartbeat_ms, server.heartbeat_ms);
    let (a, b) = (client.sealing.unwrap(), server.sealing.unwrap());
    assert_eq!((&a.send, &a.receive), (&b.receive, &b.send));
    assert_ne!(a.send, a.receive, "one key for each direction");
    assert_ne!(*a.send, *client.peer.session.unwrap().1);
    assert_eq!((a.max_frame, b.max_frame), (SERVER_FRAME, CLIENT_FRAME));
    assert_eq!(heartbeats, (7_000, 7_000));
    assert!(a.tagged && b.tagged);
}

#[test]
fn a_key_is_asked_for_when_it_is_needed_with_what_is_known_then() {
    let client =
        client().with_key_id(KeyId::new("kid").unwrap()).with_expected_server(name("server"));
    let (mut client, mut server) = (Side::client(&client), Side::server(&server()));
    let purpose = Purpose::Derivation;
    let request =
        |role, name| Some(KeyRequest { role, purpose, key_id: Some("kid"), name, challenge: None });
    assert!(server.request().is_none() && client.request().is_none());
    client.hears(&server.says()).unwrap();
    assert!(client.wants_nothing());
    assert_eq!(client.request(), request(Role::Client, None));
    client.key(&key(1)).unwrap();
    assert!(client.request().is_none() && !client.wants_nothing());
    server.hears(&client.says()).unwrap();
    assert!(server.wants_nothing() && !server.is_agreed());
    assert_eq!(server.request(), request(Role::Server, Some("client")));
    server.key(&key(1)).unwrap();
    assert!(server.request().is_none() && server.is_agreed() && server.wants_nothing());
    client.hears(&server.says()).unwrap();
    assert!(client.wants_nothing() && !client.is_agreed());
    assert_eq!(client.request(), request(Role::Client, Some("server")));
    client.key(&key(1)).unwrap();
    assert!(client.request().is_none() && client.is_agreed() && client.wants_nothing());
}

#[test]
fn an_end_wants_its_header_and_then_what_that_says() {
    let (mut client, mut server) = (Side::client(&client()), Side::server(&server()));
    assert_eq!((client.handshake.want(), server.handshake.want()), (4, 4));
    let m1 = server.says();
    client.hears(&m1[..4]).unwrap();
    assert_eq!(client.handshake.want(), m1.len());
    client.hears(&m1[4..]).unwrap();
    client.key(&key(1)).unwrap();
    assert_eq!(client.handshake.want(), m1.len() + 4);
    let m2 = client.says();
    server.hears(&m2[..4]).unwrap();
    assert_eq!(server.handshake.want(), m2.len());
    server.hears(&m2[4..]).unwrap();
    server.key(&key(1)).unwrap();
    let m3 = server.says();
    client.hears(&m3[..4]).unwrap();
    assert_eq!(client.handshake.want(), m1.len() + m3.len());
}

#[test]
fn a_session_differs_from_every_other() {
    let other = |client: config::Mutual, server: config::Mutual| {
        let (client, _) = agreed(&client, &server, (None, None)).unwrap();
        let (id, exporter) = client.peer.session.unwrap();
        let sealing = client.sealing.unwrap();
        (id, *exporter, *sealing.send, *sealing.receive)
    };
    let one = other(client(), server());
    for two in [
        other(client().with_key_id(KeyId::new("kid").unwrap()), server()),
        other(client().with_expected_server(name("server")), server()),
        other(client(), server().with_heartbeat(Duration::ZERO)),
        other(client(), server().with_process_id(process_id([1; 16]))),
    ] {
        assert!(one.0 != two.0 && one.1 != two.1 && one.2 != two.2 && one.3 != two.3);
    }
    assert_eq!(one, other(client(), server()), "and is the same when all is");
}

#[test]
fn an_end_inside_tls_is_silent_until_it_is_bound() {
    let (mut client, mut server) = (
        Side::client(&client().with_channel_binding()),
        Side::server(&server().with_channel_binding()),
    );
    for side in [&mut client, &mut server] {
        assert_eq!(side.says(), b"");
        assert_eq!(side.handshake.want(), 0);
        side.step(Input::Received).unwrap();
        side.key(&key(1)).unwrap();
        assert_eq!(side.says(), b"");
        assert!(side.request().is_none() && !side.is_agreed());
        side.step(Input::Channel(&[7; 32])).unwrap();
        assert_eq!(side.handshake.want(), 4);
    }
    assert_eq!(client.says(), b"");
    assert!(!server.says().is_empty());
    server.step(Input::Channel(&[7; 32])).unwrap();
    assert_eq!(server.says(), b"", "it begins once");
}

#[test]
fn both_ends_are_in_one_tls_connection_or_in_none() {
    let (bound, to) = (client().with_channel_binding(), server().with_channel_binding());
    let mut flipped = [7; 32];
    flipped[31] ^= 1;
    assert!(agreed(&bound, &to, (Some([7; 32]), Some([7; 32]))).is_some());
    assert!(agreed(&bound, &to, (Some([7; 32]), Some(flipped))).is_none());
    assert!(agreed(&bound, &server(), (Some([7; 32]), None)).is_none());
    assert!(agreed(&client(), &to, (None, Some([7; 32]))).is_none());
    assert!(agreed(&bound, &server(), (Some([0; 32]), None)).is_none());
    // Who was not configured for it does not bind, and binds once who was.
    assert!(agreed(&client(), &server(), (Some([7; 32]), Some(flipped))).is_some());
}

#[test]
fn a_binding_is_the_first_that_is_told() {
    let key = key(1);
    let mut client = Side::client(&client().with_channel_binding());
    let mut server = Side::server(&server().with_channel_binding());
    server.step(Input::Channel(&[7; 32])).unwrap();
    client.step(Input::Channel(&[7; 32])).unwrap();
    client.step(Input::Channel(&[8; 32])).unwrap();
    client.hears(&server.says()).unwrap();
    client.step(Input::Channel(&[8; 32])).unwrap();
    client.key(&key).unwrap();
    server.hears(&client.says()).unwrap();
    server.step(Input::Channel(&[8; 32])).unwrap();
    assert_eq!(server.key(&key), Ok(()));
}

#[test]
fn tags_are_left_out_only_where_both_ends_allow_it() {
    let both = (Some([7; 32]), Some([7; 32]));
    let (tagged, untagged) =
        (client().with_channel_binding(), client().with_channel_binding().without_tags());
    let (to_tagged, to_untagged) =
        (server().with_channel_binding(), server().with_channel_binding().without_tags());
    for (client, server, tags) in [
        (&tagged, &to_tagged, true),
        (&tagged, &to_untagged, true),
        (&untagged, &to_tagged, true),
        (&untagged, &to_untagged, false),
    ] {
        let (client, server) = agreed(client, server, both).unwrap();
        assert_eq!(client.sealing.unwrap().tagged, tags);
        assert_eq!(server.sealing.unwrap().tagged, tags);
    }
}

#[test]
fn one_flipped_bit_of_any_message_keeps_both_from_agreeing_on_it() {
    let key = key(1);
    let (mut client_end, mut server_end, [m1, m2]) = proved(&client(), &server(), &key);
    server_end.key(&key).unwrap();
    let m3 = server_end.says();
    client_end.hears(&m3).unwrap();

    for bit in 32..m1.len() * 8 {
        let (mut client, mut server) = (Side::client(&client()), Side::server(&server()));
        let mut bytes = server.says();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if client.hears(&bytes).is_ok() && !client.wants_nothing() {
            continue; // it waits for more, until it gives up
        }
        if client.request().is_some() {
            client.key(&key).unwrap();
            server.hears(&client.says()).unwrap();
            assert_eq!(server.key(&key), Err(Error::WrongKey), "bit {bit} of M1");
        }
    }
    for bit in 32..m2.len() * 8 {
        let (mut server, mut bytes) = (Side::server(&server()), m2.clone());
        server.says();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = server.hears(&bytes).and_then(|()| server.key(&key));
        let error = verdict.unwrap_err();
        let before = [Error::Malformed, Error::Incompatible].contains(&error);
        assert!(before || error == Error::WrongKey, "bit {bit} of M2: {error:?}");
        assert_eq!(server.says(), b"");
    }
    for bit in 32..m3.len() * 8 {
        let (mut client, _, _) = proved(&client(), &server(), &key);
        let mut bytes = m3.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = client.hears(&bytes).unwrap_err();
        assert!([Error::Malformed, Error::WrongKey].contains(&error), "bit {bit} of M3: {error:?}");
        assert_eq!(client.says(), b"");
    }
}

#[test]
fn an_input_that_was_not_asked_for_changes_nothing() {
    let key = key(1);
    let disturb = |side: &mut Side| {
        if side.request().is_none() {
            side.step(Input::Key(Err(KeyRejection::Unknown))).unwrap();
            side.key(&key).unwrap();
        } else {
            side.step(Input::Received).unwrap();
        }
        side.step(Input::Channel(&[7; 32])).unwrap();
    };
    let (mut client, mut server) = (Side::client(&client()), Side::server(&server()));
    disturb(&mut client);
    disturb(&mut server);
    client.hears(&server.says()).unwrap();
    disturb(&mut client);
    client.key(&key).unwrap();
    disturb(&mut client);
    server.hears(&client.says()).unwrap();
    disturb(&mut server);
    server.key(&key).unwrap();
    disturb(&mut server);
    client.hears(&server.says()).unwrap();
    disturb(&mut client);
    client.key(&key).unwrap();
    disturb(&mut client);
    server.step(Input::Received).unwrap();
    client.step(Input::Received).unwrap();
    assert_eq!(identity(&client), identity(&server));
    assert_eq!((client.says(), server.says()), (vec![], vec![]));
}
