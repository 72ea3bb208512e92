//! Checks of the server, and their order.

use super::*;

#[test]
fn m1_offers_the_allowed_suites() {
    let m1 = Endpoint::server(&server()).transmit();
    let nonce = [0xa1; 32];
    assert_eq!(m1, [b"\0\0\0\x29\x01CSGN\x01\x01\x01\x01", &nonce[..]].concat());
    let mut untagged = Endpoint::server(&server().with_channel_binding().without_tags());
    untagged.step(Input::Channel(&[7; 32])).unwrap();
    assert_eq!(
        untagged.transmit(),
        [b"\0\0\0\x2a\x01CSGN\x01\x01\x02\x00\x01", &nonce[..]].concat()
    );
}

#[test]
fn server_rejects_oversized_messages() {
    let longest = message::MAX_M2 as u32 - 4;
    for (n, verdict) in [
        (0, Err(Error::Malformed)),
        (1, Ok(())),
        (longest, Ok(())),
        (longest + 1, Err(Error::Malformed)),
        (513, Err(Error::Malformed)),
        (u32::MAX, Err(Error::Malformed)),
    ] {
        assert_eq!(Endpoint::server(&server()).deliver(&n.to_be_bytes()), verdict, "{n}");
    }
}

/// The verdict of a server on an M2 with this version and suite, before it requests a key.
fn verify_selection(mutual: &config::Mutual, version: u8, suite: u8) -> Result<(), Error> {
    let (_, _, [_, mut m2]) = exchange_m1_m2(&client(), &server(), &key(1));
    m2[5..7].copy_from_slice(&[version, suite]);
    let mut server = Endpoint::server(mutual);
    server.step(Input::Channel(&[7; 32])).unwrap();
    server.deliver(&m2)
}

#[test]
fn server_rejects_unoffered_version_and_suite() {
    assert_eq!(verify_selection(&server(), 1, 1), Ok(()));
    for version in [0, 2, 255] {
        assert_eq!(verify_selection(&server(), version, 1), Err(Error::Incompatible));
    }
    for suite in [0, 2, 255] {
        assert_eq!(verify_selection(&server(), 1, suite), Err(Error::Incompatible));
    }
    let bound = server().with_channel_binding();
    assert_eq!(verify_selection(&bound, 1, 0), Err(Error::Incompatible));
    let untagged = bound.without_tags();
    assert_eq!(verify_selection(&untagged, 1, 0), Ok(()));
    assert_eq!(verify_selection(&untagged, 1, 1), Ok(()));
    assert_eq!(verify_selection(&untagged, 1, 2), Err(Error::Incompatible));
}

#[test]
fn malformed_m2_is_rejected_before_its_version() {
    let (_, _, [_, mut m2]) = exchange_m1_m2(&client(), &server(), &key(1));
    m2[5] = 9;
    m2[7] = 0;
    assert_eq!(Endpoint::server(&server()).deliver(&m2), Err(Error::Malformed));
}

#[test]
fn server_accepts_only_the_right_key() {
    let (right, wrong) = (key(1), key(2));
    let (client, server) = (client(), server());
    let verdict = |answer| verify_client(&client, &server, &right, answer);
    assert_eq!(verdict(Ok(Candidates::one(&right))), Ok(()));
    assert_eq!(verdict(Ok(Candidates::one(&wrong))), Err(Error::WrongKey));
    for reason in [KeyRejection::Unknown, KeyRejection::OutOfDate, KeyRejection::WrongRole] {
        assert_eq!(verdict(Err(reason)), Err(Error::Refused(reason)));
    }
}

#[test]
fn server_continues_with_the_matching_candidate_key() {
    let (old, new, third) = (key(1), key(2), key(3));
    let (client, server) = (client(), server());
    let both = Candidates::two(&new, &old);
    // `verify_client` compares the session ids, which depend on the key that each side uses.
    assert_eq!(verify_client(&client, &server, &old, Ok(both)), Ok(()));
    assert_eq!(verify_client(&client, &server, &new, Ok(both)), Ok(()));
    assert_eq!(verify_client(&client, &server, &third, Ok(both)), Err(Error::WrongKey));
    assert_eq!(verify_client(&client, &server, &old, Ok(Candidates::two(&old, &old))), Ok(()));
}

#[test]
fn client_proof_is_bound_to_the_key_id() {
    let key = key(1);
    let (_, _, [_, mut m2]) = exchange_m1_m2(&client(), &server(), &key);
    // `default` becomes `defaulu`, so the proof does not match.
    m2[8 + 6] += 1;
    let mut server = Endpoint::server(&server());
    server.transmit();
    server.deliver(&m2).unwrap();
    assert_eq!(server.key_request().unwrap().key_id, Some("defaulu"));
    assert_eq!(server.provide_key(&key), Err(Error::WrongKey));
}

#[test]
fn name_rejection_applies_to_the_matching_key() {
    let (held, other) = (key(1), key(2));
    let (client, server) = (client(), server());
    let verdict =
        |first, second| verify_client(&client, &server, &held, Ok(Candidates::new(first, second)));
    let (accepted, rejected) = (Candidate::new, Candidate::name_not_allowed);
    const NAME_NOT_ALLOWED: Result<(), Error> = Err(Error::Identity(IdentityError::NameNotAllowed));

    assert_eq!(verdict(rejected(&held), None), NAME_NOT_ALLOWED);
    assert_eq!(verdict(rejected(&other), None), Err(Error::WrongKey));
    assert_eq!(verdict(rejected(&held), Some(accepted(&other))), NAME_NOT_ALLOWED);
    assert_eq!(verdict(accepted(&other), Some(rejected(&held))), NAME_NOT_ALLOWED);
    assert_eq!(verdict(rejected(&other), Some(accepted(&held))), Ok(()));
    assert_eq!(verdict(accepted(&held), Some(rejected(&other))), Ok(()));
}

#[test]
fn server_rejects_a_client_that_expects_another() {
    let held = key(1);
    let client_expecting = |expected| client().with_expected_server(name(expected));
    let verdict = |client: config::Mutual| {
        verify_client(&client, &server(), &held, Ok(Candidates::one(&held)))
    };
    assert_eq!(verdict(client_expecting("server")), Ok(()));
    for other in ["serve", "servers", "Server", "client"] {
        assert_eq!(
            verdict(client_expecting(other)),
            Err(Error::Identity(IdentityError::WrongServer)),
            "{other}"
        );
    }
}

#[test]
fn server_rejects_its_own_name_and_process_id() {
    let held = key(1);
    let verdict = |client: config::Mutual| {
        verify_client(&client, &server(), &held, Ok(Candidates::one(&held)))
    };
    let namesake = config::Mutual::new(name("server"), process_id(CLIENT_PROCESS_ID));
    assert_eq!(verdict(namesake), Err(Error::Identity(IdentityError::SameName)));
    let alias = client().with_process_id(process_id(SERVER_PROCESS_ID));
    assert_eq!(verdict(alias), Err(Error::Identity(IdentityError::SameProcess)));
}

#[test]
fn server_checks_run_in_a_fixed_order() {
    let (held, other) = (key(1), key(2));
    let server = server();
    let namesake = config::Mutual::new(name("server"), process_id(SERVER_PROCESS_ID));
    let unexpected = namesake.clone().with_expected_server(name("another"));
    let alias = client().with_process_id(process_id(SERVER_PROCESS_ID));
    let name_rejected = Candidates::new(Candidate::name_not_allowed(&held), None);
    let verdict = |client, answer| verify_client(client, &server, &held, answer);

    let unknown = Err(KeyRejection::Unknown);
    assert_eq!(verdict(&unexpected, unknown), Err(Error::Refused(KeyRejection::Unknown)));
    assert_eq!(verdict(&unexpected, Ok(Candidates::one(&other))), Err(Error::WrongKey));
    assert_eq!(
        verdict(&unexpected, Ok(name_rejected)),
        Err(Error::Identity(IdentityError::WrongServer))
    );
    assert_eq!(
        verdict(&namesake, Ok(name_rejected)),
        Err(Error::Identity(IdentityError::SameName))
    );
    assert_eq!(
        verdict(&alias, Ok(name_rejected)),
        Err(Error::Identity(IdentityError::NameNotAllowed))
    );
    let accepted = Ok(Candidates::one(&held));
    assert_eq!(verdict(&alias, accepted), Err(Error::Identity(IdentityError::SameProcess)));
}

#[test]
fn proof_with_the_dummy_key_is_rejected() {
    let (_, _, [_, m2]) = exchange_m1_m2(&client(), &server(), &key(1));
    let (without_proof, _) = message::split_proof(&m2);
    for answer in [Err(KeyRejection::Unknown), Ok(()), Err(KeyRejection::OutOfDate)] {
        let mut server = Endpoint::server(&server());
        let transcript = Transcript::new(None).absorb(&server.transmit()).absorb(without_proof);
        let dummy = Prk::dummy(&DUMMY).import(TAGGED, "default");
        let proof = dummy.absorb().proof(Role::Client, &transcript.hash());
        server.deliver(&[without_proof, proof.as_slice()].concat()).unwrap();
        let other = key(2);
        let verdict = server.step(Input::Key(answer.map(|()| Candidates::one(&other))));
        let error = answer.map_or_else(Error::Refused, |()| Error::WrongKey);
        assert_eq!(verdict, Err(error));
        assert_eq!(server.transmit(), b"");
    }
}
