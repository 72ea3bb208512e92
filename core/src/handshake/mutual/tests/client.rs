//! What a client refuses, and in which order.

use super::forge::Forged;
use super::*;

/// An M1 of these versions and suites.
fn m1(versions: [u8; 2], suites: &[u8]) -> Vec<u8> {
    let count = suites.len() as u8;
    let body = [b"\x01CSGN", &versions[..], &[count], suites, &[0xa1; 32]].concat();
    [&(body.len() as u32).to_be_bytes(), &body[..]].concat()
}

/// The version and suite that a client chooses.
fn chosen(mutual: &config::Mutual, versions: [u8; 2], suites: &[u8]) -> Result<(u8, u8), Error> {
    let mut client = Side::client(mutual);
    client.step(Input::Channel(&[7; 32])).unwrap();
    client.hears(&m1(versions, suites))?;
    client.key(&key(1))?;
    let m2 = client.says();
    let m2 = ClientProof::parse(&m2)?;
    Ok((m2.version, m2.suite))
}

#[test]
fn a_client_speaks_version_1_wherever_it_is_among_those_offered() {
    for versions in [[1, 1], [0, 1], [1, 9], [0, 255]] {
        assert_eq!(chosen(&client(), versions, &[1]), Ok((1, 1)));
    }
    for versions in [[0, 0], [2, 2], [2, 255]] {
        assert_eq!(chosen(&client(), versions, &[1]), Err(Error::Incompatible));
    }
}

#[test]
fn a_client_takes_the_first_suite_that_it_allows() {
    let bound = client().with_channel_binding();
    for mutual in [&client(), &bound] {
        for suites in [&[1][..], &[0, 1], &[1, 0], &[2, 0, 1], &[9, 8, 7, 6, 5, 4, 3, 1]] {
            assert_eq!(chosen(mutual, [1, 1], suites), Ok((1, 1)));
        }
        for suites in [&[0][..], &[2], &[255, 0, 2]] {
            assert_eq!(chosen(mutual, [1, 1], suites), Err(Error::Incompatible));
        }
    }
    let untagged = bound.without_tags();
    assert_eq!(chosen(&untagged, [1, 1], &[0, 1]), Ok((1, 0)));
    assert_eq!(chosen(&untagged, [1, 1], &[1, 0]), Ok((1, 1)));
    assert_eq!(chosen(&untagged, [1, 1], &[2, 0]), Ok((1, 0)));
    assert_eq!(chosen(&untagged, [1, 1], &[2]), Err(Error::Incompatible));
}

#[test]
fn a_client_says_who_it_is_and_whom_it_expects() {
    let mutual =
        client().with_key_id(KeyId::new("kid").unwrap()).with_expected_server(name("server"));
    let mut client = Side::client(&mutual);
    client.hears(&m1([1, 1], &[1])).unwrap();
    assert_eq!(client.says(), b"", "not before it has a key");
    client.key(&key(1)).unwrap();
    let m2 = client.says();
    let unproved = [
        b"\0\0\0\x69\x02\x01\x01\x03kid\x06client\x06server",
        &CLIENT_INSTANCE[..],
        &CLIENT_FRAME.to_be_bytes(),
        &[0xb2; 32],
    ]
    .concat();
    assert_eq!(m2[..m2.len() - 32], unproved);
}

#[test]
fn a_client_proves_itself_with_the_first_of_two_keys() {
    let (first, second) = (key(1), key(2));
    let mut client = Side::client(&client());
    let mut server = Side::server(&server());
    client.hears(&server.says()).unwrap();
    client.step(Input::Key(Ok(Candidates::two(&first, &second)))).unwrap();
    server.hears(&client.says()).unwrap();
    server.key(&first).unwrap();
    client.hears(&server.says()).unwrap();
    client.step(Input::Key(Ok(Candidates::two(&first, &second)))).unwrap();
    assert_eq!(identity(&client), identity(&server));
    assert_eq!(Some(identity(&client).2), first.fingerprint());
}

#[test]
fn a_client_reads_no_message_longer_than_the_longest() {
    let m1 = m1([1, 1], &[1]);
    for n in [0, message::MAX_M1 as u32 - 3, 513, u32::MAX] {
        let verdict = Side::client(&client()).hears(&n.to_be_bytes());
        assert_eq!(verdict, Err(Error::Malformed), "{n}");
    }
    let longest = message::MAX_M1 as u32 - 4;
    assert_eq!(Side::client(&client()).hears(&longest.to_be_bytes()), Ok(()));
    let longest = message::MAX_M3 as u32 - 4;
    for (n, verdict) in [
        (0, Err(Error::Malformed)),
        (longest, Ok(())),
        (longest + 1, Err(Error::Malformed)),
        (u32::MAX, Err(Error::Malformed)),
    ] {
        let mut client = Side::client(&client());
        client.hears(&m1).unwrap();
        client.key(&key(1)).unwrap();
        assert_eq!(client.hears(&n.to_be_bytes()), verdict, "{n}");
    }
}

#[test]
fn an_alert_ends_a_client_in_place_of_either_message() {
    let alert = message::alert(1);
    let refused = Err(Error::Alert(Alert::Refused));
    assert_eq!(Side::client(&client()).hears(&alert), refused);
    let (mut client, _, _) = proved(&client(), &server(), &key(1));
    assert_eq!(client.hears(&alert), refused);
    assert_eq!(client.says(), b"");
}

/// A client's verdict on an M3 of a server that holds the key and is of this name and instance.
fn judged(mutual: &config::Mutual, name: &str, process_id: [u8; 16]) -> Result<(), Error> {
    let held = key(1);
    let (mut client, _, [m1, m2]) = proved(mutual, &server(), &held);
    let m3 = Forged { name, process_id, key: &held }.answer(&m1, &m2);
    let verdict = client.hears(&m3);
    assert_eq!(client.says(), b"", "it says nothing more");
    assert_eq!(verdict.is_ok(), client.request().is_some());
    verdict
}

#[test]
fn a_client_takes_the_server_that_it_expects_and_no_other() {
    let expecting = client().with_expected_server(name("server"));
    assert_eq!(judged(&expecting, "server", SERVER_INSTANCE), Ok(()));
    for other in ["serve", "servers", "client"] {
        let verdict = judged(&expecting, other, SERVER_INSTANCE);
        assert_eq!(verdict, Err(Error::Identity(IdentityError::UnexpectedServer)), "{other}");
    }
    // It was asked for by that name, so that is no accident.
    let expecting = client().with_expected_server(name("client"));
    assert_eq!(judged(&expecting, "client", SERVER_INSTANCE), Ok(()));
}

#[test]
fn a_client_that_expects_nobody_takes_whoever_is_not_itself() {
    assert_eq!(judged(&client(), "server", SERVER_INSTANCE), Ok(()));
    assert_eq!(judged(&client(), "clients", SERVER_INSTANCE), Ok(()));
    let namesake = judged(&client(), "client", SERVER_INSTANCE);
    assert_eq!(namesake, Err(Error::Identity(IdentityError::SameName)));
    let alias = judged(&client(), "server", CLIENT_INSTANCE);
    assert_eq!(alias, Err(Error::Identity(IdentityError::SameProcess)));
    let expecting = client().with_expected_server(name("server"));
    let alias = judged(&expecting, "server", CLIENT_INSTANCE);
    assert_eq!(alias, Err(Error::Identity(IdentityError::SameProcess)));
    let stranger = judged(&expecting, "other", CLIENT_INSTANCE);
    assert_eq!(stranger, Err(Error::Identity(IdentityError::UnexpectedServer)));
}

#[test]
fn who_a_server_is_counts_only_once_its_proof_is_right() {
    let (held, other) = (key(1), key(2));
    let expecting = client().with_expected_server(name("server"));
    let (mut client, _, [m1, m2]) = proved(&expecting, &server(), &held);
    let forged = Forged { name: "other", process_id: CLIENT_INSTANCE, key: &other };
    assert_eq!(client.hears(&forged.answer(&m1, &m2)), Err(Error::WrongKey));
}

#[test]
fn a_proof_is_for_the_message_before_it() {
    let held = key(1);
    let (mut client, _, [m1, m2]) = proved(&client(), &server(), &held);
    let forged = Forged { name: "server", process_id: SERVER_INSTANCE, key: &held };
    let mut other = m2.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(client.hears(&forged.answer(&m1, &other)), Err(Error::WrongKey));
}

#[test]
fn the_holder_of_the_keys_has_the_last_word_on_a_server() {
    let held = key(1);
    let admitting = || {
        let (mut client, mut server, _) = proved(&client(), &server(), &held);
        server.key(&held).unwrap();
        client.hears(&server.says()).unwrap();
        client
    };
    let refusing = Candidates::new(Candidate::name_not_allowed(&held), None);
    let refused = admitting().step(Input::Key(Ok(refusing)));
    assert_eq!(refused, Err(Error::Identity(IdentityError::NameNotAllowed)));
    let unknown = admitting().step(Input::Key(Err(KeyRejection::Unknown)));
    assert_eq!(unknown, Err(Error::Refused(KeyRejection::Unknown)));
    assert_eq!(admitting().key(&held), Ok(()));

    // A newer key has come meanwhile: what is said of it is not said of the one that was used.
    let newer = key(2);
    let both = |newer, held| Input::Key(Ok(Candidates::new(newer, Some(held))));
    let (fine, refused) = (Candidate::new, Candidate::name_not_allowed);
    assert_eq!(admitting().step(both(refused(&newer), fine(&held))), Ok(()));
    let not_admitted = Err(Error::Identity(IdentityError::NameNotAllowed));
    assert_eq!(admitting().step(both(fine(&newer), refused(&held))), not_admitted);
    assert_eq!(admitting().key(&newer), Err(Error::Refused(KeyRejection::Unknown)));
}

#[test]
fn a_client_without_a_key_says_nothing() {
    let mut client = Side::client(&client());
    client.hears(&m1([1, 1], &[1])).unwrap();
    let refused = client.step(Input::Key(Err(KeyRejection::WrongRole)));
    assert_eq!(refused, Err(Error::Refused(KeyRejection::WrongRole)));
    assert_eq!(client.says(), b"");
}
