//! What a server refuses, and in which order.

use super::*;

#[test]
fn a_server_offers_what_it_allows() {
    let m1 = Side::server(&server()).says();
    let nonce = [0xa1; 32];
    assert_eq!(m1, [b"\0\0\0\x29\x01CSGN\x01\x01\x01\x01", &nonce[..]].concat());
    let mut untagged = Side::server(&server().with_channel_binding().without_tags());
    untagged.step(Input::Channel(&[7; 32])).unwrap();
    assert_eq!(untagged.says(), [b"\0\0\0\x2a\x01CSGN\x01\x01\x02\x00\x01", &nonce[..]].concat());
}

#[test]
fn a_server_reads_no_message_longer_than_the_longest() {
    let longest = message::MAX_M2 as u32 - 4;
    for (n, verdict) in [
        (0, Err(Error::Malformed)),
        (1, Ok(())),
        (longest, Ok(())),
        (longest + 1, Err(Error::Malformed)),
        (513, Err(Error::Malformed)),
        (u32::MAX, Err(Error::Malformed)),
    ] {
        assert_eq!(Side::server(&server()).hears(&n.to_be_bytes()), verdict, "{n}");
    }
}

/// What a server says to an M2 of this version and suite, before any key is asked for.
fn offered(mutual: &config::Mutual, version: u8, suite: u8) -> Result<(), Error> {
    let (_, _, [_, mut m2]) = proved(&client(), &server(), &key(1));
    m2[5..7].copy_from_slice(&[version, suite]);
    let mut server = Side::server(mutual);
    server.step(Input::Channel(&[7; 32])).unwrap();
    server.hears(&m2)
}

#[test]
fn a_server_takes_no_version_and_no_suite_that_it_did_not_offer() {
    assert_eq!(offered(&server(), 1, 1), Ok(()));
    for version in [0, 2, 255] {
        assert_eq!(offered(&server(), version, 1), Err(Error::Incompatible));
    }
    for suite in [0, 2, 255] {
        assert_eq!(offered(&server(), 1, suite), Err(Error::Incompatible));
    }
    let bound = server().with_channel_binding();
    assert_eq!(offered(&bound, 1, 0), Err(Error::Incompatible));
    let untagged = bound.without_tags();
    assert_eq!(offered(&untagged, 1, 0), Ok(()));
    assert_eq!(offered(&untagged, 1, 1), Ok(()));
    assert_eq!(offered(&untagged, 1, 2), Err(Error::Incompatible));
}

#[test]
fn a_message_that_cannot_be_read_has_no_version() {
    let (_, _, [_, mut m2]) = proved(&client(), &server(), &key(1));
    m2[5] = 9;
    m2[7] = 0;
    assert_eq!(Side::server(&server()).hears(&m2), Err(Error::Malformed));
}

#[test]
fn a_server_takes_the_right_key_and_no_other() {
    let (right, wrong) = (key(1), key(2));
    let (client, server) = (client(), server());
    let verdict = |answer| verdict(&client, &server, &right, answer);
    assert_eq!(verdict(Ok(Candidates::one(&right))), Ok(()));
    assert_eq!(verdict(Ok(Candidates::one(&wrong))), Err(Error::WrongKey));
    for why in [KeyRejection::Unknown, KeyRejection::OutOfDate, KeyRejection::WrongRole] {
        assert_eq!(verdict(Err(why)), Err(Error::Refused(why)));
    }
}

#[test]
fn a_server_takes_either_of_two_keys_and_goes_on_with_the_one_that_matched() {
    let (old, new, third) = (key(1), key(2), key(3));
    let (client, server) = (client(), server());
    let both = Candidates::two(&new, &old);
    // That both ends go on with one key is seen by what they agree on.
    assert_eq!(verdict(&client, &server, &old, Ok(both)), Ok(()));
    assert_eq!(verdict(&client, &server, &new, Ok(both)), Ok(()));
    assert_eq!(verdict(&client, &server, &third, Ok(both)), Err(Error::WrongKey));
    assert_eq!(verdict(&client, &server, &old, Ok(Candidates::two(&old, &old))), Ok(()));
}

#[test]
fn a_key_is_known_by_its_id_too() {
    let key = key(1);
    let (_, _, [_, mut m2]) = proved(&client(), &server(), &key);
    // `default` becomes `defaulu`, and the proof does not fit any more.
    m2[8 + 6] += 1;
    let mut server = Side::server(&server());
    server.says();
    server.hears(&m2).unwrap();
    assert_eq!(server.request().unwrap().key_id, Some("defaulu"));
    assert_eq!(server.key(&key), Err(Error::WrongKey));
}

#[test]
fn a_name_is_refused_for_the_key_that_matched() {
    let (held, other) = (key(1), key(2));
    let (client, server) = (client(), server());
    let verdict =
        |first, second| verdict(&client, &server, &held, Ok(Candidates::new(first, second)));
    let (admits, refuses) = (Candidate::new, Candidate::name_not_allowed);
    const NOT_ADMITTED: Result<(), Error> = Err(Error::Identity(IdentityError::NameNotAllowed));

    assert_eq!(verdict(refuses(&held), None), NOT_ADMITTED);
    assert_eq!(verdict(refuses(&other), None), Err(Error::WrongKey));
    assert_eq!(verdict(refuses(&held), Some(admits(&other))), NOT_ADMITTED);
    assert_eq!(verdict(admits(&other), Some(refuses(&held))), NOT_ADMITTED);
    assert_eq!(verdict(refuses(&other), Some(admits(&held))), Ok(()));
    assert_eq!(verdict(admits(&held), Some(refuses(&other))), Ok(()));
}

#[test]
fn a_server_is_the_one_that_the_client_expects() {
    let held = key(1);
    let expecting = |expected| client().with_expected_server(name(expected));
    let verdict =
        |client: config::Mutual| verdict(&client, &server(), &held, Ok(Candidates::one(&held)));
    assert_eq!(verdict(expecting("server")), Ok(()));
    for other in ["serve", "servers", "Server", "client"] {
        assert_eq!(
            verdict(expecting(other)),
            Err(Error::Identity(IdentityError::WrongServer)),
            "{other}"
        );
    }
}

#[test]
fn a_server_does_not_talk_to_itself() {
    let held = key(1);
    let verdict =
        |client: config::Mutual| verdict(&client, &server(), &held, Ok(Candidates::one(&held)));
    let namesake = config::Mutual::new(name("server"), process_id(CLIENT_INSTANCE));
    assert_eq!(verdict(namesake), Err(Error::Identity(IdentityError::SameName)));
    let alias = client().with_process_id(process_id(SERVER_INSTANCE));
    assert_eq!(verdict(alias), Err(Error::Identity(IdentityError::SameProcess)));
}

#[test]
fn the_checks_have_an_order() {
    let (held, other) = (key(1), key(2));
    let server = server();
    let namesake = config::Mutual::new(name("server"), process_id(SERVER_INSTANCE));
    let stranger = namesake.clone().with_expected_server(name("another"));
    let alias = client().with_process_id(process_id(SERVER_INSTANCE));
    let refusing = Candidates::new(Candidate::name_not_allowed(&held), None);
    let verdict = |client, answer| verdict(client, &server, &held, answer);

    let unknown = Err(KeyRejection::Unknown);
    assert_eq!(verdict(&stranger, unknown), Err(Error::Refused(KeyRejection::Unknown)));
    assert_eq!(verdict(&stranger, Ok(Candidates::one(&other))), Err(Error::WrongKey));
    assert_eq!(verdict(&stranger, Ok(refusing)), Err(Error::Identity(IdentityError::WrongServer)));
    assert_eq!(verdict(&namesake, Ok(refusing)), Err(Error::Identity(IdentityError::SameName)));
    assert_eq!(verdict(&alias, Ok(refusing)), Err(Error::Identity(IdentityError::NameNotAllowed)));
    let admitting = Ok(Candidates::one(&held));
    assert_eq!(verdict(&alias, admitting), Err(Error::Identity(IdentityError::SameProcess)));
}

#[test]
fn a_match_with_what_stands_in_for_a_key_is_none() {
    let (_, _, [_, m2]) = proved(&client(), &server(), &key(1));
    let (unproved, _) = message::split_proof(&m2);
    for answer in [Err(KeyRejection::Unknown), Ok(()), Err(KeyRejection::OutOfDate)] {
        let mut server = Side::server(&server());
        let transcript = Transcript::new(None).absorb(&server.says()).absorb(unproved);
        let stand_in = Prk::dummy(&DUMMY).import(TAGGED, "default");
        let proof = stand_in.absorb().proof(Role::Client, &transcript.hash());
        server.hears(&[unproved, proof.as_slice()].concat()).unwrap();
        let other = key(2);
        let verdict = server.step(Input::Key(answer.map(|()| Candidates::one(&other))));
        let error = answer.map_or_else(Error::Refused, |()| Error::WrongKey);
        assert_eq!(verdict, Err(error));
        assert_eq!(server.says(), b"");
    }
}
