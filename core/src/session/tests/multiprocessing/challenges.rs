//! Challenges: valid, malformed, reflected, and as key requests present them.

use super::*;

#[test]
fn challenge_messages_over_20_bytes_are_answered() {
    let digest = Digest::Sha256;
    for len in 0..=245 {
        let message = [label(digest), vec![0x42; 245]].concat()[..len].to_vec();
        let mut client = Endpoint::client(&strict(digest));
        let result = client.receive(&challenge_frame(&message));
        match len {
            ..20 => assert_eq!(result, Some(Err(Error::Malformed)), "{len}"),
            20 => assert_eq!(result, Some(Err(Error::Incompatible))),
            _ => {
                assert_eq!(result, None, "{len}");
                assert_eq!(client.transmit_all(), response(digest, SECRET, &message, false));
            }
        }
    }
}

#[test]
fn malformed_challenge_is_not_answered() {
    let digest = Digest::Sha256;
    for body in
        [&b""[..], b"#CHALLENGE", b"#challenge#{sha256}0123456789abcdef0123", WELCOME, FAILURE]
    {
        let mut client = Endpoint::client(&strict(digest));
        assert_eq!(client.receive(&frame(body)), Some(Err(Error::Malformed)));
        assert_eq!(client.transmit_all(), b"");
        let mut server = server_after_welcome(digest, &strict(digest));
        assert_eq!(server.receive(&frame(body)), Some(Err(Error::Malformed)));
        assert_eq!(server.transmit_all(), b"");
    }
}

#[test]
fn reflected_challenge_is_not_answered() {
    let digest = Digest::Sha256;
    let mut server = server_after_welcome(digest, &strict(digest));
    let reflected = Some(Err(Error::Refused(KeyRejection::Reflected)));
    assert_eq!(server.receive(&challenge_frame(&own_message(digest))), reflected);
    assert_eq!(server.transmit_all(), b"");
    // The peer does not know the challenge of a client yet, unless nonces repeat.
    let mut client = Endpoint::client(&strict(digest));
    assert_eq!(client.receive(&challenge_frame(&own_message(digest))), reflected);
    assert_eq!(client.transmit_all(), b"");
}

#[test]
fn key_request_distinguishes_our_challenge_from_the_peers() {
    let digest = Digest::Sha256;
    let request = |endpoint: &mut Endpoint| {
        assert_eq!(endpoint.events(), [Event::KeyNeeded]);
        let request = endpoint.session.key_request().unwrap();
        assert_eq!((request.key_id, request.name), (None, None));
        match request.challenge.unwrap() {
            Challenge::Ours(bytes) => (request.role, true, bytes.to_vec()),
            Challenge::Theirs(bytes) => (request.role, false, bytes.to_vec()),
        }
    };
    let feed = |endpoint: &mut Endpoint, bytes: &[u8]| {
        endpoint.feed(&bytes[..4]);
        assert_eq!(endpoint.events(), []);
        endpoint.feed(&bytes[4..]);
    };
    let mut server = Endpoint::server(&strict(digest));
    server.transmit_all();
    feed(&mut server, &response(digest, SECRET, &own_message(digest), false));
    assert_eq!(request(&mut server), (Role::Server, true, own_message(digest)));
    server.provide_key(&key(digest, SECRET));
    server.transmit_all();
    feed(&mut server, &challenge_frame(&message(digest)));
    assert_eq!(request(&mut server), (Role::Server, false, message(digest)));

    let mut client = Endpoint::client(&strict(digest));
    feed(&mut client, &challenge_frame(&message(digest)));
    assert_eq!(request(&mut client), (Role::Client, false, message(digest)));
}

#[test]
fn own_challenge_is_exposed_until_it_is_answered() {
    let digest = Digest::Sha256;
    let mut client = Endpoint::client(&strict(digest));
    assert_eq!(client.session.challenge(), Some(&own_message(digest)[..]));
    client.receive(&challenge_frame(&message(digest)));
    client.receive(&frame(WELCOME));
    client.transmit_all();
    assert_eq!(client.session.challenge(), Some(&own_message(digest)[..]));
    client.receive(&response(digest, SECRET, &own_message(digest), false));
    assert_eq!(client.session.challenge(), None);

    let mut server = Endpoint::server(&strict(digest));
    assert_eq!(server.session.challenge(), Some(&own_message(digest)[..]));
    server.session.abort(CloseReason::Shutdown, server.now);
    assert_eq!(server.session.challenge(), None);
    assert_eq!(Endpoint::server(&challenge(digest)).session.challenge(), None);
}
