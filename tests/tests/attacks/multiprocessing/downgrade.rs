//! Downgrade attacks: a man in the middle wants a proof with another digest.

use countersign::{Digest, Error, Event, Mac, Role};
use countersign_tests::Policy;
use countersign_tests::frame;
use countersign_tests::python::PYTHON_DIGESTS;

use super::{
    FAILURE_FRAME, WELCOME_FRAME, challenge_frame, challenge_message, label, message, received_by,
    response, start,
};
use crate::endpoint::Endpoint;
use crate::party::SECRET;

const NOTHING: Option<Error> = Some(Error::Incompatible);

/// Returns messages that request `digest`: CPython's current form, and for MD5 the old one too.
fn messages(digest: Digest) -> Vec<Vec<u8>> {
    let mut messages = vec![message(digest, b'x')];
    if digest == Digest::Md5 {
        // A message of 20 bytes requests MD5, whatever it starts with.
        messages.extend([vec![b'x'; 20], b"{sha256}xxxxxxxxxxxx".to_vec()]);
    }
    messages
}

/// Returns responses to `message` with `digest`: CPython's current form, and for MD5 the old one
/// too.
fn responses(digest: Digest, message: &[u8]) -> Vec<Vec<u8>> {
    let named = response(digest, SECRET, message);
    if digest != Digest::Md5 {
        return vec![named];
    }
    let bare = frame(Mac::new(digest, SECRET).tag(message).bytes());
    vec![named, bare]
}

fn strict(role: Role, digest: Digest) -> Endpoint {
    start(Policy::Strict(digest), role, 0xa1 + role as u8, SECRET)
}

/// Returns a server that has accepted the attacker's response.
fn welcoming(digest: Digest) -> Endpoint {
    let mut server = strict(Role::Server, digest);
    let own = server.output();
    assert_eq!(server.answer(&responses(digest, challenge_message(&own))[0]), WELCOME_FRAME);
    server
}

/// Returns all pairs of different digests.
fn pairs() -> impl Iterator<Item = (Digest, Digest)> {
    let others = |ours| PYTHON_DIGESTS.iter().map(move |(theirs, _)| (ours, *theirs));
    PYTHON_DIGESTS
        .iter()
        .flat_map(move |(ours, _)| others(*ours))
        .filter(|(ours, theirs)| ours != theirs)
}

#[test]
fn strict_endpoint_answers_with_no_other_digest() {
    for (ours, theirs) in pairs() {
        for message in messages(theirs) {
            for mut end in [strict(Role::Client, ours), welcoming(ours)] {
                let before = end.events.len();
                assert_eq!(end.answer(&challenge_frame(&message)), b"");
                assert_eq!(end.error, NOTHING, "{ours} challenge_message for {theirs}");
                assert_eq!(end.events.len(), before, "a key was requested");
            }
        }
    }
}

#[test]
fn strict_endpoint_refuses_a_right_proof_in_another_digest() {
    for (ours, theirs) in pairs() {
        let mut client = strict(Role::Client, ours);
        client.feed(&challenge_frame(&message(ours, b'x')));
        client.output();
        let own = client.answer(WELCOME_FRAME);
        for response in responses(theirs, challenge_message(&own)) {
            let mut awaiting_response = strict(Role::Client, ours);
            awaiting_response
                .feed(&[challenge_frame(&message(ours, b'x')), WELCOME_FRAME.to_vec()].concat());
            let mut server = strict(Role::Server, ours);
            let greeting = server.output();
            let to_server = responses(theirs, challenge_message(&greeting));
            for (mut end, response) in [(awaiting_response, &response), (server, &to_server[0])] {
                end.output();
                assert_eq!(end.answer(response), FAILURE_FRAME);
                assert_eq!(end.error, NOTHING, "{ours} given {theirs}");
                assert!(!end.is_established());
            }
        }
    }
}

/// Returns `challenge` modified to request `digest`, with its random bytes where they fit.
fn relabelled(challenge: &[u8], digest: Digest) -> Vec<Vec<u8>> {
    let message = challenge_message(challenge);
    let random = match message.strip_prefix(b"{") {
        Some(named) => &named[named.iter().position(|byte| *byte == b'}').unwrap() + 1..],
        None => message,
    };
    let named = challenge_frame(&[label(digest), random].concat());
    if digest == Digest::Md5 { vec![named, challenge_frame(&random[..20])] } else { vec![named] }
}

/// Both sides use one digest, and the attacker requests another.
#[test]
fn strict_endpoint_ignores_a_challenge_for_another_digest() {
    for (wanted, instead) in pairs() {
        let endpoints = || [strict(Role::Client, wanted), strict(Role::Server, wanted)];
        let challenge = endpoints()[1].output();
        for changed in relabelled(&challenge, instead) {
            let [mut client, mut server] = endpoints();
            server.output();
            assert_eq!(client.answer(&changed), b"", "{wanted} made {instead}");
            assert_eq!(client.error, NOTHING);
            server.eof();
            assert!(!client.is_established() && !server.is_established());
        }

        let [mut client, mut server] = endpoints();
        let response = client.answer(&server.output());
        let challenge = client.answer(&server.answer(&response));
        for changed in relabelled(&challenge, instead) {
            let mut server = strict(Role::Server, wanted);
            server.output();
            server.feed(&response);
            assert_eq!(server.output(), WELCOME_FRAME);
            assert_eq!(server.answer(&changed), b"", "{wanted} made {instead}");
            assert_eq!(server.error, NOTHING);
        }
        client.eof();
        assert!(!client.is_established());
    }
}

fn compatible(role: Role, asks: Digest) -> Endpoint {
    start(Policy::Compatible(asks, asks), role, 0xa1 + role as u8, SECRET)
}

/// The attacker obtains an answer with the digest it chooses, but to a modified challenge. Neither
/// side accepts it, because the response covers the label.
#[test]
fn answer_to_a_modified_compatible_challenge_is_refused() {
    for (wanted, instead) in pairs() {
        let endpoints = || [compatible(Role::Client, wanted), compatible(Role::Server, wanted)];
        let challenge = endpoints()[1].output();
        for changed in relabelled(&challenge, instead) {
            let [mut client, mut server] = endpoints();
            server.output();
            let answer = client.answer(&changed);
            assert!(responses(instead, challenge_message(&changed)).contains(&answer));
            assert_eq!(server.answer(&answer), FAILURE_FRAME, "{wanted} made {instead}");
            assert_eq!(server.error, Some(Error::WrongKey));
            assert_eq!(client.answer(FAILURE_FRAME), b"");
            assert!(!client.is_established() && !server.is_established());
        }

        let [mut client, mut server] = endpoints();
        let response = client.answer(&server.output());
        let challenge = client.answer(&server.answer(&response));
        for changed in relabelled(&challenge, instead) {
            let [mut client, mut server] = endpoints();
            server.output();
            server.feed(&response);
            server.output();
            let answer = server.answer(&changed);
            assert!(responses(instead, challenge_message(&changed)).contains(&answer));
            client.feed(&received_by(
                Role::Client,
                &[challenge_frame(&message(wanted, b'x')), vec![], WELCOME_FRAME.to_vec()],
            ));
            client.output();
            assert_eq!(client.answer(&answer), FAILURE_FRAME, "{wanted} made {instead}");
            assert_eq!(client.error, Some(Error::WrongKey));
            assert!(!client.is_established() && !server.is_established());
        }
    }
}

/// A compatible endpoint answers a challenge with any digest.
#[test]
fn compatible_endpoint_answers_with_any_python_digest() {
    for (ours, theirs) in pairs() {
        for message in messages(theirs) {
            let mut client = compatible(Role::Client, ours);
            let answer = client.answer(&challenge_frame(&message));
            assert!(
                responses(theirs, &message).contains(&answer),
                "{ours} challenge_message for {theirs}"
            );
            assert_eq!(client.events, [Event::KeyNeeded]);
        }
    }
}

#[test]
fn response_labelled_with_another_digest_is_refused() {
    for (ours, theirs) in pairs().filter(|(ours, theirs)| ours.tag_len() == theirs.tag_len()) {
        let mut server = compatible(Role::Server, ours);
        let own = server.output();
        let tag = Mac::new(ours, SECRET).tag(challenge_message(&own));
        let renamed = frame(&[label(theirs), tag.bytes()].concat());
        assert_eq!(server.answer(&renamed), FAILURE_FRAME);
        assert_eq!(server.error, Some(Error::WrongKey));
    }
}
