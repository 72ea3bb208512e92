//! Checks of the client, and their order.

use super::forged_server::ForgedServer;
use super::*;

/// An M1 that offers these versions and suites.
fn m1(versions: [u8; 2], suites: &[u8]) -> Vec<u8> {
    let count = suites.len() as u8;
    let body = [b"\x01CSGN", &versions[..], &[count], suites, &[0xa1; 32]].concat();
    [&(body.len() as u32).to_be_bytes(), &body[..]].concat()
}

/// The version and suite that the client selects.
fn select(mutual: &config::Mutual, versions: [u8; 2], suites: &[u8]) -> Result<(u8, u8), Error> {
    let mut client = Endpoint::client(mutual);
    client.step(Input::Channel(&[7; 32])).unwrap();
    client.deliver(&m1(versions, suites))?;
    client.provide_key(&key(1))?;
    let m2 = client.transmit();
    let m2 = ClientProof::parse(&m2)?;
    Ok((m2.version, m2.suite))
}

#[test]
fn client_selects_version_1_if_offered() {
    for versions in [[1, 1], [0, 1], [1, 9], [0, 255]] {
        assert_eq!(select(&client(), versions, &[1]), Ok((1, 1)));
    }
    for versions in [[0, 0], [2, 2], [2, 255]] {
        assert_eq!(select(&client(), versions, &[1]), Err(Error::Incompatible));
    }
}

#[test]
fn client_selects_the_first_allowed_suite() {
    let bound = client().with_channel_binding();
    for mutual in [&client(), &bound] {
        for suites in [&[1][..], &[0, 1], &[1, 0], &[2, 0, 1], &[9, 8, 7, 6, 5, 4, 3, 1]] {
            assert_eq!(select(mutual, [1, 1], suites), Ok((1, 1)));
        }
        for suites in [&[0][..], &[2], &[255, 0, 2]] {
            assert_eq!(select(mutual, [1, 1], suites), Err(Error::Incompatible));
        }
    }
    let untagged = bound.without_tags();
    assert_eq!(select(&untagged, [1, 1], &[0, 1]), Ok((1, 0)));
    assert_eq!(select(&untagged, [1, 1], &[1, 0]), Ok((1, 1)));
    assert_eq!(select(&untagged, [1, 1], &[2, 0]), Ok((1, 0)));
    assert_eq!(select(&untagged, [1, 1], &[2]), Err(Error::Incompatible));
}

#[test]
fn m2_carries_client_identity_and_expected_server() {
    let mutual =
        client().with_key_id(KeyId::new("kid").unwrap()).with_expected_server(name("server"));
    let mut client = Endpoint::client(&mutual);
    client.deliver(&m1([1, 1], &[1])).unwrap();
    assert_eq!(client.transmit(), b"", "the client has no key yet");
    client.provide_key(&key(1)).unwrap();
    let m2 = client.transmit();
    let without_proof = [
        b"\0\0\0\x69\x02\x01\x01\x03kid\x06client\x06server",
        &CLIENT_PROCESS_ID[..],
        &CLIENT_FRAME.to_be_bytes(),
        &[0xb2; 32],
    ]
    .concat();
    assert_eq!(m2[..m2.len() - 32], without_proof);
}

#[test]
fn client_proof_uses_the_first_of_two_keys() {
    let (first, second) = (key(1), key(2));
    let mut client = Endpoint::client(&client());
    let mut server = Endpoint::server(&server());
    client.deliver(&server.transmit()).unwrap();
    client.step(Input::Key(Ok(Candidates::two(&first, &second)))).unwrap();
    server.deliver(&client.transmit()).unwrap();
    server.provide_key(&first).unwrap();
    client.deliver(&server.transmit()).unwrap();
    client.step(Input::Key(Ok(Candidates::two(&first, &second)))).unwrap();
    assert_eq!(session_identity(&client), session_identity(&server));
    assert_eq!(Some(session_identity(&client).2), first.fingerprint());
}

#[test]
fn client_rejects_oversized_messages() {
    let m1 = m1([1, 1], &[1]);
    for n in [0, message::MAX_M1 as u32 - 3, 513, u32::MAX] {
        let verdict = Endpoint::client(&client()).deliver(&n.to_be_bytes());
        assert_eq!(verdict, Err(Error::Malformed), "{n}");
    }
    let longest = message::MAX_M1 as u32 - 4;
    assert_eq!(Endpoint::client(&client()).deliver(&longest.to_be_bytes()), Ok(()));
    let longest = message::MAX_M3 as u32 - 4;
    for (n, verdict) in [
        (0, Err(Error::Malformed)),
        (longest, Ok(())),
        (longest + 1, Err(Error::Malformed)),
        (u32::MAX, Err(Error::Malformed)),
    ] {
        let mut client = Endpoint::client(&client());
        client.deliver(&m1).unwrap();
        client.provide_key(&key(1)).unwrap();
        assert_eq!(client.deliver(&n.to_be_bytes()), verdict, "{n}");
    }
}

#[test]
fn alert_ends_the_client_at_m1_and_at_m3() {
    let alert = message::alert(1);
    let refused = Err(Error::Alert(Alert::Refused));
    assert_eq!(Endpoint::client(&client()).deliver(&alert), refused);
    let (mut client, _, _) = exchange_m1_m2(&client(), &server(), &key(1));
    assert_eq!(client.deliver(&alert), refused);
    assert_eq!(client.transmit(), b"");
}

/// The verdict of a client on the M3 of a server with the right key, this name and process id.
fn verify_server(mutual: &config::Mutual, name: &str, process_id: [u8; 16]) -> Result<(), Error> {
    let held = key(1);
    let (mut client, _, [m1, m2]) = exchange_m1_m2(mutual, &server(), &held);
    let m3 = ForgedServer { name, process_id, key: &held }.m3(&m1, &m2);
    let verdict = client.deliver(&m3);
    assert_eq!(client.transmit(), b"", "the client sends nothing after M2");
    assert_eq!(verdict.is_ok(), client.key_request().is_some());
    verdict
}

#[test]
fn client_accepts_only_the_expected_server() {
    let with_expectation = client().with_expected_server(name("server"));
    assert_eq!(verify_server(&with_expectation, "server", SERVER_PROCESS_ID), Ok(()));
    for other in ["serve", "servers", "client"] {
        let verdict = verify_server(&with_expectation, other, SERVER_PROCESS_ID);
        assert_eq!(verdict, Err(Error::Identity(IdentityError::UnexpectedServer)), "{other}");
    }
    // A server with the name of the client is accepted if the client expects that name.
    let with_expectation = client().with_expected_server(name("client"));
    assert_eq!(verify_server(&with_expectation, "client", SERVER_PROCESS_ID), Ok(()));
}

#[test]
fn client_without_expected_server_rejects_only_itself() {
    assert_eq!(verify_server(&client(), "server", SERVER_PROCESS_ID), Ok(()));
    assert_eq!(verify_server(&client(), "clients", SERVER_PROCESS_ID), Ok(()));
    let namesake = verify_server(&client(), "client", SERVER_PROCESS_ID);
    assert_eq!(namesake, Err(Error::Identity(IdentityError::SameName)));
    let alias = verify_server(&client(), "server", CLIENT_PROCESS_ID);
    assert_eq!(alias, Err(Error::Identity(IdentityError::SameProcess)));
    let with_expectation = client().with_expected_server(name("server"));
    let alias = verify_server(&with_expectation, "server", CLIENT_PROCESS_ID);
    assert_eq!(alias, Err(Error::Identity(IdentityError::SameProcess)));
    let unexpected = verify_server(&with_expectation, "other", CLIENT_PROCESS_ID);
    assert_eq!(unexpected, Err(Error::Identity(IdentityError::UnexpectedServer)));
}

#[test]
fn server_proof_is_checked_before_its_identity() {
    let (held, other) = (key(1), key(2));
    let with_expectation = client().with_expected_server(name("server"));
    let (mut client, _, [m1, m2]) = exchange_m1_m2(&with_expectation, &server(), &held);
    let forged = ForgedServer { name: "other", process_id: CLIENT_PROCESS_ID, key: &other };
    assert_eq!(client.deliver(&forged.m3(&m1, &m2)), Err(Error::WrongKey));
}

#[test]
fn m3_proof_for_another_m2_is_rejected() {
    let held = key(1);
    let (mut client, _, [m1, m2]) = exchange_m1_m2(&client(), &server(), &held);
    let forged = ForgedServer { name: "server", process_id: SERVER_PROCESS_ID, key: &held };
    let mut other = m2.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(client.deliver(&forged.m3(&m1, &other)), Err(Error::WrongKey));
}

#[test]
fn application_may_reject_a_proven_server() {
    let held = key(1);
    let client_awaiting_authorization = || {
        let (mut client, mut server, _) = exchange_m1_m2(&client(), &server(), &held);
        server.provide_key(&held).unwrap();
        client.deliver(&server.transmit()).unwrap();
        client
    };
    let name_rejected = Candidates::new(Candidate::name_not_allowed(&held), None);
    let refused = client_awaiting_authorization().step(Input::Key(Ok(name_rejected)));
    assert_eq!(refused, Err(Error::Identity(IdentityError::NameNotAllowed)));
    let unknown = client_awaiting_authorization().step(Input::Key(Err(KeyRejection::Unknown)));
    assert_eq!(unknown, Err(Error::Refused(KeyRejection::Unknown)));
    assert_eq!(client_awaiting_authorization().provide_key(&held), Ok(()));

    // The application has rotated the key meanwhile: only the verdict on the key of the proof counts.
    let newer = key(2);
    let both = |newer, held| Input::Key(Ok(Candidates::new(newer, Some(held))));
    let (accepted, rejected) = (Candidate::new, Candidate::name_not_allowed);
    assert_eq!(
        client_awaiting_authorization().step(both(rejected(&newer), accepted(&held))),
        Ok(())
    );
    let name_not_allowed = Err(Error::Identity(IdentityError::NameNotAllowed));
    assert_eq!(
        client_awaiting_authorization().step(both(accepted(&newer), rejected(&held))),
        name_not_allowed
    );
    assert_eq!(
        client_awaiting_authorization().provide_key(&newer),
        Err(Error::Refused(KeyRejection::Unknown))
    );
}

#[test]
fn client_without_a_key_transmits_nothing() {
    let mut client = Endpoint::client(&client());
    client.deliver(&m1([1, 1], &[1])).unwrap();
    let refused = client.step(Input::Key(Err(KeyRejection::WrongRole)));
    assert_eq!(refused, Err(Error::Refused(KeyRejection::WrongRole)));
    assert_eq!(client.transmit(), b"");
}
