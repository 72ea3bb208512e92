//! Both sides together: complete handshakes, channel bindings, and modified messages.

use super::*;

/// Runs a handshake to completion; `None` if one side rejects the other.
fn run_handshake(
    client: &config::Mutual,
    server: &config::Mutual,
    bindings: (Option<[u8; 32]>, Option<[u8; 32]>),
) -> Option<(HandshakeOutput, HandshakeOutput)> {
    let key = key(1);
    let (mut client, mut server) = (Endpoint::client(client), Endpoint::server(server));
    for (endpoint, binding) in [(&mut client, bindings.0), (&mut server, bindings.1)] {
        if let Some(exporter) = binding {
            endpoint.step(Input::Channel(&exporter)).unwrap();
        }
    }
    client.deliver(&server.transmit()).ok()?;
    client.provide_key(&key).ok()?;
    server.deliver(&client.transmit()).ok()?;
    server.provide_key(&key).ok()?;
    client.deliver(&server.transmit()).ok()?;
    client.provide_key(&key).ok()?;
    assert!(client.is_complete() && server.is_complete());
    Some((client.output()?, server.output()?))
}

#[test]
fn both_sides_agree_on_peers_and_session() {
    let client = client().with_key_id(KeyId::new("kid").unwrap());
    // The key id comes from the client and the heartbeat from the server.
    let server =
        server().with_heartbeat(Duration::from_secs(7)).with_key_id(KeyId::new("other").unwrap());
    let (client, server) = run_handshake(&client, &server, (None, None)).unwrap();
    let endpoints =
        [(&client.peer, Role::Server, "server"), (&server.peer, Role::Client, "client")];
    for (info, role, name) in endpoints {
        let peer = info.peer(role);
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
    assert_ne!(a.send, a.receive, "each direction has its own key");
    assert_ne!(*a.send, *client.peer.session.unwrap().1);
    assert_eq!((a.max_frame, b.max_frame), (SERVER_FRAME, CLIENT_FRAME));
    assert_eq!(heartbeats, (7_000, 7_000));
    assert!(a.tagged && b.tagged);
}

#[test]
fn key_requests_carry_the_fields_known_so_far() {
    let client =
        client().with_key_id(KeyId::new("kid").unwrap()).with_expected_server(name("server"));
    let (mut client, mut server) = (Endpoint::client(&client), Endpoint::server(&server()));
    let purpose = Purpose::Derivation;
    let request =
        |role, name| Some(KeyRequest { role, purpose, key_id: Some("kid"), name, challenge: None });
    assert!(server.key_request().is_none() && client.key_request().is_none());
    client.deliver(&server.transmit()).unwrap();
    assert!(client.wants_no_input());
    assert_eq!(client.key_request(), request(Role::Client, None));
    client.provide_key(&key(1)).unwrap();
    assert!(client.key_request().is_none() && !client.wants_no_input());
    server.deliver(&client.transmit()).unwrap();
    assert!(server.wants_no_input() && !server.is_complete());
    assert_eq!(server.key_request(), request(Role::Server, Some("client")));
    server.provide_key(&key(1)).unwrap();
    assert!(server.key_request().is_none() && server.is_complete() && server.wants_no_input());
    client.deliver(&server.transmit()).unwrap();
    assert!(client.wants_no_input() && !client.is_complete());
    assert_eq!(client.key_request(), request(Role::Client, Some("server")));
    client.provide_key(&key(1)).unwrap();
    assert!(client.key_request().is_none() && client.is_complete() && client.wants_no_input());
}

#[test]
fn wanted_length_is_the_header_then_the_message() {
    let (mut client, mut server) = (Endpoint::client(&client()), Endpoint::server(&server()));
    assert_eq!((client.handshake.want(), server.handshake.want()), (4, 4));
    let m1 = server.transmit();
    client.deliver(&m1[..4]).unwrap();
    assert_eq!(client.handshake.want(), m1.len());
    client.deliver(&m1[4..]).unwrap();
    client.provide_key(&key(1)).unwrap();
    assert_eq!(client.handshake.want(), m1.len() + 4);
    let m2 = client.transmit();
    server.deliver(&m2[..4]).unwrap();
    assert_eq!(server.handshake.want(), m2.len());
    server.deliver(&m2[4..]).unwrap();
    server.provide_key(&key(1)).unwrap();
    let m3 = server.transmit();
    client.deliver(&m3[..4]).unwrap();
    assert_eq!(client.handshake.want(), m1.len() + m3.len());
}

#[test]
fn session_keys_depend_on_every_transcript_field() {
    let session_secrets = |client: config::Mutual, server: config::Mutual| {
        let (client, _) = run_handshake(&client, &server, (None, None)).unwrap();
        let (id, exporter) = client.peer.session.unwrap();
        let sealing = client.sealing.unwrap();
        (id, *exporter, *sealing.send, *sealing.receive)
    };
    let base = session_secrets(client(), server());
    for changed in [
        session_secrets(client().with_key_id(KeyId::new("kid").unwrap()), server()),
        session_secrets(client().with_expected_server(name("server")), server()),
        session_secrets(client(), server().with_heartbeat(Duration::ZERO)),
        session_secrets(client(), server().with_process_id(process_id([1; 16]))),
    ] {
        assert!(base.0 != changed.0 && base.1 != changed.1);
        assert!(base.2 != changed.2 && base.3 != changed.3);
    }
    assert_eq!(base, session_secrets(client(), server()), "equal inputs yield equal secrets");
}

#[test]
fn channel_bound_handshake_waits_for_its_binding() {
    let (mut client, mut server) = (
        Endpoint::client(&client().with_channel_binding()),
        Endpoint::server(&server().with_channel_binding()),
    );
    for endpoint in [&mut client, &mut server] {
        assert_eq!(endpoint.transmit(), b"");
        assert_eq!(endpoint.handshake.want(), 0);
        endpoint.step(Input::Received).unwrap();
        endpoint.provide_key(&key(1)).unwrap();
        assert_eq!(endpoint.transmit(), b"");
        assert!(endpoint.key_request().is_none() && !endpoint.is_complete());
        endpoint.step(Input::Channel(&[7; 32])).unwrap();
        assert_eq!(endpoint.handshake.want(), 4);
    }
    assert_eq!(client.transmit(), b"");
    assert!(!server.transmit().is_empty());
    server.step(Input::Channel(&[7; 32])).unwrap();
    assert_eq!(server.transmit(), b"", "a second binding has no effect");
}

#[test]
fn differing_channel_bindings_prevent_agreement() {
    let (bound_client, bound_server) =
        (client().with_channel_binding(), server().with_channel_binding());
    let mut flipped = [7; 32];
    flipped[31] ^= 1;
    assert!(run_handshake(&bound_client, &bound_server, (Some([7; 32]), Some([7; 32]))).is_some());
    assert!(run_handshake(&bound_client, &bound_server, (Some([7; 32]), Some(flipped))).is_none());
    assert!(run_handshake(&bound_client, &server(), (Some([7; 32]), None)).is_none());
    assert!(run_handshake(&client(), &bound_server, (None, Some([7; 32]))).is_none());
    assert!(run_handshake(&bound_client, &server(), (Some([0; 32]), None)).is_none());
    // An endpoint that is not configured for a channel binding ignores it.
    assert!(run_handshake(&client(), &server(), (Some([7; 32]), Some(flipped))).is_some());
}

#[test]
fn first_channel_binding_is_kept() {
    let key = key(1);
    let mut client = Endpoint::client(&client().with_channel_binding());
    let mut server = Endpoint::server(&server().with_channel_binding());
    server.step(Input::Channel(&[7; 32])).unwrap();
    client.step(Input::Channel(&[7; 32])).unwrap();
    client.step(Input::Channel(&[8; 32])).unwrap();
    client.deliver(&server.transmit()).unwrap();
    client.step(Input::Channel(&[8; 32])).unwrap();
    client.provide_key(&key).unwrap();
    server.deliver(&client.transmit()).unwrap();
    server.step(Input::Channel(&[8; 32])).unwrap();
    assert_eq!(server.provide_key(&key), Ok(()));
}

#[test]
fn tags_are_omitted_only_if_both_sides_allow_it() {
    let both = (Some([7; 32]), Some([7; 32]));
    let (tagged_client, untagged_client) =
        (client().with_channel_binding(), client().with_channel_binding().without_tags());
    let (tagged_server, untagged_server) =
        (server().with_channel_binding(), server().with_channel_binding().without_tags());
    for (client, server, tags) in [
        (&tagged_client, &tagged_server, true),
        (&tagged_client, &untagged_server, true),
        (&untagged_client, &tagged_server, true),
        (&untagged_client, &untagged_server, false),
    ] {
        let (client, server) = run_handshake(client, server, both).unwrap();
        assert_eq!(client.sealing.unwrap().tagged, tags);
        assert_eq!(server.sealing.unwrap().tagged, tags);
    }
}

#[test]
fn flipped_handshake_bit_prevents_agreement() {
    let key = key(1);
    let (mut complete_client, mut complete_server, [m1, m2]) =
        exchange_m1_m2(&client(), &server(), &key);
    complete_server.provide_key(&key).unwrap();
    let m3 = complete_server.transmit();
    complete_client.deliver(&m3).unwrap();

    for bit in 32..m1.len() * 8 {
        let (mut client, mut server) = (Endpoint::client(&client()), Endpoint::server(&server()));
        let mut bytes = server.transmit();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if client.deliver(&bytes).is_ok() && !client.wants_no_input() {
            continue; // The client waits for more bytes, until its deadline.
        }
        if client.key_request().is_some() {
            client.provide_key(&key).unwrap();
            server.deliver(&client.transmit()).unwrap();
            assert_eq!(server.provide_key(&key), Err(Error::WrongKey), "bit {bit} of M1");
        }
    }
    for bit in 32..m2.len() * 8 {
        let (mut server, mut bytes) = (Endpoint::server(&server()), m2.clone());
        server.transmit();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verdict = server.deliver(&bytes).and_then(|()| server.provide_key(&key));
        let error = verdict.unwrap_err();
        let before_proof = [Error::Malformed, Error::Incompatible].contains(&error);
        assert!(before_proof || error == Error::WrongKey, "bit {bit} of M2: {error:?}");
        assert_eq!(server.transmit(), b"");
    }
    for bit in 32..m3.len() * 8 {
        let (mut client, _, _) = exchange_m1_m2(&client(), &server(), &key);
        let mut bytes = m3.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = client.deliver(&bytes).unwrap_err();
        assert!([Error::Malformed, Error::WrongKey].contains(&error), "bit {bit} of M3: {error:?}");
        assert_eq!(client.transmit(), b"");
    }
}

#[test]
fn unexpected_input_is_ignored() {
    let key = key(1);
    let inject_unexpected = |endpoint: &mut Endpoint| {
        if endpoint.key_request().is_none() {
            endpoint.step(Input::Key(Err(KeyRejection::Unknown))).unwrap();
            endpoint.provide_key(&key).unwrap();
        } else {
            endpoint.step(Input::Received).unwrap();
        }
        endpoint.step(Input::Channel(&[7; 32])).unwrap();
    };
    let (mut client, mut server) = (Endpoint::client(&client()), Endpoint::server(&server()));
    inject_unexpected(&mut client);
    inject_unexpected(&mut server);
    client.deliver(&server.transmit()).unwrap();
    inject_unexpected(&mut client);
    client.provide_key(&key).unwrap();
    inject_unexpected(&mut client);
    server.deliver(&client.transmit()).unwrap();
    inject_unexpected(&mut server);
    server.provide_key(&key).unwrap();
    inject_unexpected(&mut server);
    client.deliver(&server.transmit()).unwrap();
    inject_unexpected(&mut client);
    client.provide_key(&key).unwrap();
    inject_unexpected(&mut client);
    server.step(Input::Received).unwrap();
    client.step(Input::Received).unwrap();
    assert_eq!(session_identity(&client), session_identity(&server));
    assert_eq!((client.transmit(), server.transmit()), (vec![], vec![]));
}
