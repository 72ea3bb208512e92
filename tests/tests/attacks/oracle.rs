//! The scheme `challenge`: what it promises, and that it gives nothing away for `mutual` where both
//! have one secret. Nor does `multiprocessing` for either.

use countersign::{
    Candidates, Config, Digest, Error, Event, Instant, Key, KeyError, KeyRejection, Nonce,
    Protocol, Role, Scheme, Truncated,
};

use sha2::{Digest as _, Sha256};

use crate::ends::{End, Handshake, Keyring, OTHER, SECRET, Who, alert, begin, flips, honest};
use crate::multiprocessing::{self as python, FAILURE_FRAME, WELCOME_FRAME, ask, asked};

const PROOF_LEN: usize = 32;

fn challenge(role: Role, nonce: u8, secret: &[u8]) -> End {
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let keys = Ok(vec![Key::challenge(Digest::Sha256, secret).unwrap()]);
    let mut end = End::new(&config, role, nonce, Keyring { kid: None, keys, admits: true });
    end.feed(b"");
    end
}

fn client(nonce: u8) -> End {
    challenge(Role::Client, nonce, SECRET)
}

fn server(nonce: u8) -> End {
    challenge(Role::Server, nonce, SECRET)
}

/// It closes, sending nothing.
fn refuses(mut server: End, answer: &[u8]) {
    server.sent();
    assert_eq!(server.answer(answer), b"");
    assert_eq!(server.error, Some(Error::WrongKey));
    assert!(server.session.is_done() && !server.is_established());
}

#[test]
fn an_answer_of_the_scheme_challenge_is_good_for_its_challenge_and_its_key() {
    let mut asking = server(1);
    let answer = client(9).answer(&asking.sent());
    assert_eq!(answer.len(), PROOF_LEN);
    assert_eq!(asking.answer(&answer), b"");
    assert!(asking.is_established() && asking.session.peer().unwrap().authenticated);

    refuses(server(2), &answer);
    refuses(challenge(Role::Server, 1, OTHER), &answer);
    // The challenge itself is no answer.
    let reflected = server(1).sent();
    refuses(server(1), &reflected);
    for (_, flipped) in flips(&answer) {
        refuses(server(1), &flipped);
    }
    for len in 0..answer.len() {
        let mut server = server(1);
        server.sent();
        server.feed(&answer[..len]);
        server.eof();
        assert_eq!(server.sent(), b"");
        assert_eq!(server.error, Some(Error::Truncated(Truncated::Handshake)));
    }
}

/// A server of the scheme proves nothing, and a client does not claim that it did.
#[test]
fn a_client_of_the_scheme_challenge_takes_nobody_for_authenticated() {
    let mut client = client(9);
    client.feed(&[0; 32]);
    client.sent();
    assert!(client.is_established());
    assert!(!client.session.peer().unwrap().authenticated);
}

/// Whoever holds the keys sees the challenge before it is answered, and can refuse it.
#[test]
fn a_challenge_that_comes_back_on_another_connection_can_be_refused() {
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let outstanding = server(1).sent();
    let keys = Err(KeyRejection::Reflected);
    let ring = Keyring { kid: None, keys, admits: true };
    let mut client = End::new(&config, Role::Client, 9, ring);
    assert_eq!(client.answer(&outstanding), b"");
    assert_eq!(client.error, Some(Error::Refused(KeyRejection::Reflected)));
}

/// An M1's nonce is given to a client of `challenge` to answer, and its answer is used as the proof
/// in an M2; likewise M2's and M3's own bytes, as far as they fit.
#[test]
fn an_answer_of_the_scheme_challenge_is_no_proof_in_mutual() {
    let mutual = || Who::server().start();
    let m1 = mutual().sent();
    let m2 = Who::client().start().answer(&m1);
    let unproved = &m2[..m2.len() - PROOF_LEN];
    let questions = [&m1[m1.len() - 32..], &m2[unproved.len() - 32..][..32], &unproved[..32]];
    for question in questions {
        let answer = client(9).answer(question);
        assert_eq!(answer.len(), PROOF_LEN);
        let mut server = mutual();
        server.sent();
        assert_eq!(server.answer(&[unproved, &answer].concat()), alert(1));
        assert_eq!(server.error, Some(Error::WrongKey));
    }
}

/// The challenge of a server of `challenge` is given to a client of `mutual` as a nonce, and its
/// proof is used as the answer.
#[test]
fn a_proof_of_mutual_is_no_answer_in_the_scheme_challenge() {
    let mut m1 = Who::server().start().sent();
    let at = m1.len() - 32;
    let question = server(1).sent();
    m1[at..].copy_from_slice(&question);
    let m2 = Who::client().start().answer(&m1);
    refuses(server(1), &m2[m2.len() - PROOF_LEN..]);
    // Nor the server's, of a session that began like that.
    let mut peer = Who { nonce: 1, ..Who::server() }.start();
    assert_eq!(peer.sent()[at..], question);
    let m3 = peer.answer(&m2);
    assert!(peer.is_established());
    refuses(server(1), &m3[m3.len() - PROOF_LEN..]);
}

/// Nor can a key be used in the other scheme by mistake.
#[test]
fn a_key_made_for_one_scheme_is_not_taken_in_the_other() {
    let derived = Key::mutual(SECRET).unwrap();
    let plain = Key::challenge(Digest::Sha256, SECRET).unwrap();
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let m1 = Who::server().start().sent();
    let client = Who::client().config();
    for (config, key, greeting) in [(config, &derived, vec![7; 32]), (client, &plain, m1)] {
        let now = Instant::EPOCH;
        let nonce = Nonce::from_bytes([1; Nonce::LEN]);
        let mut client = begin(&config, Role::Client, nonce).unwrap();
        let mut rest = &greeting[..];
        while client.key_request().is_none() {
            let space = client.recv_space();
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            client.handle_received(n, now);
            client.poll_event(now).unwrap();
        }
        let wrong = client.provide_key(Ok(Candidates::one(key)), now);
        assert_eq!(wrong, Err(KeyError::Purpose));
        assert_eq!(client.poll_transmit(now), b"");
    }
}

/// How a response of the scheme `multiprocessing` begins, and a message that asks for one.
const LABEL: &[u8] = b"{sha256}";

/// What ends of `multiprocessing` answer to a message, in either role.
fn responses(message: &[u8]) -> [Vec<u8>; 2] {
    let (mut client, mut server) = (python::client(9), python::server(1));
    let response = client.answer(&server.sent());
    assert_eq!(server.answer(&response), WELCOME_FRAME);
    [python::client(9).answer(&ask(message)), server.answer(&ask(message))]
}

/// The same to one that asks for a response and goes on so, without what is around it.
fn signed(what: &[u8]) -> [Vec<u8>; 2] {
    let message = [LABEL, what].concat();
    responses(&message).map(|frame| frame[4..].strip_prefix(LABEL).unwrap().to_vec())
}

/// A server of `multiprocessing` says no.
fn tells_failure(response: &[u8]) {
    let mut server = python::server(1);
    server.sent();
    let named = [LABEL, response].concat();
    assert_eq!(server.answer(&countersign_tests::frame(&named)), FAILURE_FRAME);
    assert_eq!(server.error, Some(Error::WrongKey));
}

/// Among what is asked is the very input of mutual's HMACs, but for the name of the digest in front.
#[test]
fn a_response_of_the_scheme_multiprocessing_is_no_proof_in_mutual() {
    let Handshake { m1, m2, m3 } = honest().2;
    let unproved = |message: &[u8]| message[..message.len() - PROOF_LEN].to_vec();
    let hash = |messages: &[&[u8]]| {
        let transcript = [b"countersign/1\0", &messages.concat()[..]].concat();
        Sha256::digest(transcript).to_vec()
    };
    let client_proves = [b"client", &hash(&[&m1, &unproved(&m2)])[..]].concat();
    let server_proves = [b"server", &hash(&[&m1, &m2, &unproved(&m3)])[..]].concat();
    let questions = [
        m1[m1.len() - 32..].to_vec(),
        m1.clone(),
        unproved(&m2),
        unproved(&m3),
        client_proves,
        server_proves,
    ];
    for proof in questions.iter().flat_map(|question| signed(question)) {
        assert_eq!(proof.len(), PROOF_LEN);
        let mut server = Who::server().start();
        server.sent();
        assert_eq!(server.answer(&[unproved(&m2), proof.clone()].concat()), alert(1));
        assert_eq!(server.error, Some(Error::WrongKey));
        let mut client = Who::client().start();
        client.feed(&m1);
        client.sent();
        assert_eq!(client.answer(&[unproved(&m3), proof].concat()), b"");
        assert_eq!(client.error, Some(Error::WrongKey));
    }
}

/// The random bytes of a challenge of `multiprocessing` are given to a client of `mutual` as a nonce.
#[test]
fn a_proof_of_mutual_is_no_response_in_the_scheme_multiprocessing() {
    let challenge = python::server(1).sent();
    for random in [&challenge[challenge.len() - 32..], &asked(&challenge)[..32]] {
        let mut m1 = Who::server().start().sent();
        let at = m1.len() - 32;
        m1[at..].copy_from_slice(random);
        let m2 = Who::client().start().answer(&m1);
        tells_failure(&m2[m2.len() - PROOF_LEN..]);
    }
    let Handshake { m2, m3, .. } = honest().2;
    for message in [m2, m3] {
        tells_failure(&message[message.len() - PROOF_LEN..]);
    }
}

/// Challenges of the one are 32 bytes and those of the other never, and begin with a name or are 20.
#[test]
fn neither_of_the_schemes_challenge_and_multiprocessing_answers_for_the_other() {
    let question = python::server(1).sent();
    let message = asked(&question);
    for part in [&message[..32], &message[message.len() - 32..]] {
        tells_failure(&client(9).answer(part));
    }
    let question = server(1).sent();
    let mut asked = python::client(9);
    assert_eq!(asked.answer(&ask(&question)), b"");
    assert_eq!((asked.error, asked.events.len()), (Some(Error::Malformed), 0));
    for response in signed(&question).into_iter().chain(signed(&question[8..])) {
        refuses(server(1), &response);
    }
}

/// It would only help a guesser.
#[test]
fn no_client_answers_the_greeting_of_a_server_of_another_scheme() {
    let greeting = python::server(1).sent();
    let m1 = Who::server().start().sent();
    let cases = [
        (client(9), &greeting),
        (Who::client().start(), &greeting),
        (python::client(9), &m1),
        (client(9), &m1),
        (python::client(9), &server(1).sent()),
    ];
    for (number, (mut client, greeting)) in cases.into_iter().enumerate() {
        assert_eq!(client.answer(greeting), b"", "{number}");
        assert_eq!(client.error, Some(Error::Malformed), "{number}");
        assert!(!client.events.contains(&Event::KeyNeeded), "{number}");
    }
}
