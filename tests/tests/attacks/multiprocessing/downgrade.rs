//! Somebody on the way wants a proof by another digest.

use countersign::{Digest, Error, Event, Mac, Role};
use countersign_tests::Policy;
use countersign_tests::frame;
use countersign_tests::python::PYTHONS;

use super::{FAILURE_FRAME, WELCOME_FRAME, ask, asked, heard_by, label, message, response, start};
use crate::ends::{End, SECRET};

const NOTHING: Option<Error> = Some(Error::Incompatible);

/// Messages that ask for `digest`: as Python does now, and where it is MD5, as it did.
fn messages(digest: Digest) -> Vec<Vec<u8>> {
    let mut messages = vec![message(digest, b'x')];
    if digest == Digest::Md5 {
        // Whatever it begins with.
        messages.extend([vec![b'x'; 20], b"{sha256}xxxxxxxxxxxx".to_vec()]);
    }
    messages
}

/// Responses to `message` by `digest`: as Python gives them now, and where it is MD5, as it did.
fn responses(digest: Digest, message: &[u8]) -> Vec<Vec<u8>> {
    let named = response(digest, SECRET, message);
    if digest != Digest::Md5 {
        return vec![named];
    }
    let bare = frame(Mac::new(digest, SECRET).tag(message).bytes());
    vec![named, bare]
}

fn strict(role: Role, digest: Digest) -> End {
    start(Policy::Strict(digest), role, 0xa1 + role as u8, SECRET)
}

/// A server that has welcomed the attacker.
fn welcoming(digest: Digest) -> End {
    let mut server = strict(Role::Server, digest);
    let own = server.sent();
    assert_eq!(server.answer(&responses(digest, asked(&own))[0]), WELCOME_FRAME);
    server
}

/// Digests, and others.
fn pairs() -> impl Iterator<Item = (Digest, Digest)> {
    let others = |ours| PYTHONS.iter().map(move |(theirs, _)| (ours, *theirs));
    PYTHONS.iter().flat_map(move |(ours, _)| others(*ours)).filter(|(ours, theirs)| ours != theirs)
}

#[test]
fn a_strict_end_answers_by_its_digest_and_no_other() {
    for (ours, theirs) in pairs() {
        for message in messages(theirs) {
            for mut end in [strict(Role::Client, ours), welcoming(ours)] {
                let before = end.events.len();
                assert_eq!(end.answer(&ask(&message)), b"");
                assert_eq!(end.error, NOTHING, "{ours} asked for {theirs}");
                assert_eq!(end.events.len(), before, "no key is asked for");
            }
        }
    }
}

#[test]
fn a_strict_end_takes_its_digest_and_no_other_though_the_proof_be_right() {
    for (ours, theirs) in pairs() {
        let mut client = strict(Role::Client, ours);
        client.feed(&ask(&message(ours, b'x')));
        client.sent();
        let own = client.answer(WELCOME_FRAME);
        for response in responses(theirs, asked(&own)) {
            let mut asking = strict(Role::Client, ours);
            asking.feed(&[ask(&message(ours, b'x')), WELCOME_FRAME.to_vec()].concat());
            let mut server = strict(Role::Server, ours);
            let greeting = server.sent();
            let to_server = responses(theirs, asked(&greeting));
            for (mut end, response) in [(asking, &response), (server, &to_server[0])] {
                end.sent();
                assert_eq!(end.answer(response), FAILURE_FRAME);
                assert_eq!(end.error, NOTHING, "{ours} given {theirs}");
                assert!(!end.is_established());
            }
        }
    }
}

/// `challenge` as it would ask for `digest`, its random bytes left alone as far as they go.
fn relabelled(challenge: &[u8], digest: Digest) -> Vec<Vec<u8>> {
    let message = asked(challenge);
    let random = match message.strip_prefix(b"{") {
        Some(named) => &named[named.iter().position(|byte| *byte == b'}').unwrap() + 1..],
        None => message,
    };
    let named = ask(&[label(digest), random].concat());
    if digest == Digest::Md5 { vec![named, ask(&random[..20])] } else { vec![named] }
}

/// Both want the one digest, and somebody between them the other.
#[test]
fn whoever_rewrites_what_a_strict_end_asks_for_gets_no_answer() {
    for (wanted, instead) in pairs() {
        let ends = || [strict(Role::Client, wanted), strict(Role::Server, wanted)];
        let challenge = ends()[1].sent();
        for changed in relabelled(&challenge, instead) {
            let [mut client, mut server] = ends();
            server.sent();
            assert_eq!(client.answer(&changed), b"", "{wanted} made {instead}");
            assert_eq!(client.error, NOTHING);
            server.eof();
            assert!(!client.is_established() && !server.is_established());
        }

        let [mut client, mut server] = ends();
        let response = client.answer(&server.sent());
        let challenge = client.answer(&server.answer(&response));
        for changed in relabelled(&challenge, instead) {
            let mut server = strict(Role::Server, wanted);
            server.sent();
            server.feed(&response);
            assert_eq!(server.sent(), WELCOME_FRAME);
            assert_eq!(server.answer(&changed), b"", "{wanted} made {instead}");
            assert_eq!(server.error, NOTHING);
        }
        client.eof();
        assert!(!client.is_established());
    }
}

fn compatible(role: Role, asks: Digest) -> End {
    start(Policy::Compatible(asks, asks), role, 0xa1 + role as u8, SECRET)
}

/// He gets an answer by the digest that he likes, to a message of his own making; it is of no use to
/// either end, for what it answers names its digest.
#[test]
fn whoever_rewrites_what_a_compatible_end_asks_for_gets_an_answer_that_nobody_takes() {
    for (wanted, instead) in pairs() {
        let ends = || [compatible(Role::Client, wanted), compatible(Role::Server, wanted)];
        let challenge = ends()[1].sent();
        for changed in relabelled(&challenge, instead) {
            let [mut client, mut server] = ends();
            server.sent();
            let answer = client.answer(&changed);
            assert!(responses(instead, asked(&changed)).contains(&answer));
            assert_eq!(server.answer(&answer), FAILURE_FRAME, "{wanted} made {instead}");
            assert_eq!(server.error, Some(Error::WrongKey));
            assert_eq!(client.answer(FAILURE_FRAME), b"");
            assert!(!client.is_established() && !server.is_established());
        }

        let [mut client, mut server] = ends();
        let response = client.answer(&server.sent());
        let challenge = client.answer(&server.answer(&response));
        for changed in relabelled(&challenge, instead) {
            let [mut client, mut server] = ends();
            server.sent();
            server.feed(&response);
            server.sent();
            let answer = server.answer(&changed);
            assert!(responses(instead, asked(&changed)).contains(&answer));
            client.feed(&heard_by(
                Role::Client,
                &[ask(&message(wanted, b'x')), vec![], WELCOME_FRAME.to_vec()],
            ));
            client.sent();
            assert_eq!(client.answer(&answer), FAILURE_FRAME, "{wanted} made {instead}");
            assert_eq!(client.error, Some(Error::WrongKey));
            assert!(!client.is_established() && !server.is_established());
        }
    }
}

/// What he can have besides: whoever has the key answers a message of any digest that is asked for.
#[test]
fn a_compatible_end_answers_whoever_asks_by_any_digest_of_pythons() {
    for (ours, theirs) in pairs() {
        for message in messages(theirs) {
            let mut client = compatible(Role::Client, ours);
            let answer = client.answer(&ask(&message));
            assert!(responses(theirs, &message).contains(&answer), "{ours} asked for {theirs}");
            assert_eq!(client.events, [Event::KeyNeeded]);
        }
    }
}

#[test]
fn a_response_under_the_name_of_another_digest_is_wrong() {
    for (ours, theirs) in pairs().filter(|(ours, theirs)| ours.tag_len() == theirs.tag_len()) {
        let mut server = compatible(Role::Server, ours);
        let own = server.sent();
        let tag = Mac::new(ours, SECRET).tag(asked(&own));
        let renamed = frame(&[label(theirs), tag.bytes()].concat());
        assert_eq!(server.answer(&renamed), FAILURE_FRAME);
        assert_eq!(server.error, Some(Error::WrongKey));
    }
}
