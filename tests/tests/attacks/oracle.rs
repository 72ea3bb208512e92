//! Endpoints as oracles: what the scheme `challenge` promises, and that a response of one scheme is
//! no proof in another where both use one secret.

use countersign::{
    Candidates, Config, Digest, Error, Event, Instant, Key, KeyError, KeyRejection, Nonce,
    Protocol, Role, Scheme, Truncated,
};

use sha2::{Digest as _, Sha256};

use crate::endpoint::{Endpoint, Handshake, alert, established, flips, new_session};
use crate::multiprocessing::{
    self as python, FAILURE_FRAME, WELCOME_FRAME, challenge_frame, challenge_message,
};
use crate::party::{Keyring, OTHER, Party, SECRET};

const PROOF_LEN: usize = 32;

fn challenge(role: Role, nonce: u8, secret: &[u8]) -> Endpoint {
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let keys = Ok(vec![Key::challenge(Digest::Sha256, secret).unwrap()]);
    let mut end =
        Endpoint::new(&config, role, nonce, Keyring { key_id: None, keys, name_allowed: true });
    end.feed(b"");
    end
}

fn client(nonce: u8) -> Endpoint {
    challenge(Role::Client, nonce, SECRET)
}

fn server(nonce: u8) -> Endpoint {
    challenge(Role::Server, nonce, SECRET)
}

/// Requires that the server closes without sending anything.
fn assert_server_refuses(mut server: Endpoint, answer: &[u8]) {
    server.output();
    assert_eq!(server.answer(answer), b"");
    assert_eq!(server.error, Some(Error::WrongKey));
    assert!(server.session.is_done() && !server.is_established());
}

#[test]
fn challenge_response_is_valid_for_one_challenge_and_key() {
    let mut awaiting_response = server(1);
    let answer = client(9).answer(&awaiting_response.output());
    assert_eq!(answer.len(), PROOF_LEN);
    assert_eq!(awaiting_response.answer(&answer), b"");
    assert!(
        awaiting_response.is_established()
            && awaiting_response.session.peer().unwrap().authenticated
    );

    assert_server_refuses(server(2), &answer);
    assert_server_refuses(challenge(Role::Server, 1, OTHER), &answer);
    // The challenge itself is no response.
    let reflected = server(1).output();
    assert_server_refuses(server(1), &reflected);
    for (_, flipped) in flips(&answer) {
        assert_server_refuses(server(1), &flipped);
    }
    for len in 0..answer.len() {
        let mut server = server(1);
        server.output();
        server.feed(&answer[..len]);
        server.eof();
        assert_eq!(server.output(), b"");
        assert_eq!(server.error, Some(Error::Truncated(Truncated::Handshake)));
    }
}

/// A server of this scheme proves nothing, so the client reports it as unauthenticated.
#[test]
fn challenge_client_does_not_authenticate_the_server() {
    let mut client = client(9);
    client.feed(&[0; 32]);
    client.output();
    assert!(client.is_established());
    assert!(!client.session.peer().unwrap().authenticated);
}

/// The key provider sees the challenge before it is answered, and can refuse it.
#[test]
fn reflected_challenge_can_be_refused_by_the_keys() {
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let outstanding = server(1).output();
    let keys = Err(KeyRejection::Reflected);
    let keyring = Keyring { key_id: None, keys, name_allowed: true };
    let mut client = Endpoint::new(&config, Role::Client, 9, keyring);
    assert_eq!(client.answer(&outstanding), b"");
    assert_eq!(client.error, Some(Error::Refused(KeyRejection::Reflected)));
}

/// A client of `challenge` answers the nonce of an M1, and the attacker uses the answer as the
/// proof of an M2; the same with bytes of M2.
#[test]
fn challenge_response_is_no_proof_in_mutual() {
    let mutual = || Party::server().start();
    let m1 = mutual().output();
    let m2 = Party::client().start().answer(&m1);
    let unproved = &m2[..m2.len() - PROOF_LEN];
    let challenges = [&m1[m1.len() - 32..], &m2[unproved.len() - 32..][..32], &unproved[..32]];
    for challenge in challenges {
        let answer = client(9).answer(challenge);
        assert_eq!(answer.len(), PROOF_LEN);
        let mut server = mutual();
        server.output();
        assert_eq!(server.answer(&[unproved, &answer].concat()), alert(1));
        assert_eq!(server.error, Some(Error::WrongKey));
    }
}

/// A client of `mutual` gets the challenge of a server of `challenge` as its nonce, and the
/// attacker uses its proof as the response.
#[test]
fn mutual_proof_is_no_challenge_response() {
    let mut m1 = Party::server().start().output();
    let at = m1.len() - 32;
    let challenge = server(1).output();
    m1[at..].copy_from_slice(&challenge);
    let m2 = Party::client().start().answer(&m1);
    assert_server_refuses(server(1), &m2[m2.len() - PROOF_LEN..]);
    // The proof of the server in such a session is no response either.
    let mut peer = Party { nonce: 1, ..Party::server() }.start();
    assert_eq!(peer.output()[at..], challenge);
    let m3 = peer.answer(&m2);
    assert!(peer.is_established());
    assert_server_refuses(server(1), &m3[m3.len() - PROOF_LEN..]);
}

/// Keys cannot be mixed up between schemes.
#[test]
fn key_for_one_scheme_is_refused_by_the_other() {
    let derived = Key::mutual(SECRET).unwrap();
    let plain = Key::challenge(Digest::Sha256, SECRET).unwrap();
    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let m1 = Party::server().start().output();
    let client = Party::client().config();
    for (config, key, greeting) in [(config, &derived, vec![7; 32]), (client, &plain, m1)] {
        let now = Instant::EPOCH;
        let nonce = Nonce::from_bytes([1; Nonce::LEN]);
        let mut client = new_session(&config, Role::Client, nonce).unwrap();
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

/// Label of the challenges and responses in these tests.
const LABEL: &[u8] = b"{sha256}";

/// Returns the answers of endpoints of `multiprocessing`, in either role, to a challenge with
/// `message`.
fn responses(message: &[u8]) -> [Vec<u8>; 2] {
    let (mut client, mut server) = (python::client(9), python::server(1));
    let response = client.answer(&server.output());
    assert_eq!(server.answer(&response), WELCOME_FRAME);
    [python::client(9).answer(&challenge_frame(message)), server.answer(&challenge_frame(message))]
}

/// Returns their responses to a labelled challenge that ends with `what`, without label and header.
fn labelled_responses(what: &[u8]) -> [Vec<u8>; 2] {
    let message = [LABEL, what].concat();
    responses(&message).map(|frame| frame[4..].strip_prefix(LABEL).unwrap().to_vec())
}

/// Requires that a server of `multiprocessing` refuses `response`.
fn assert_multiprocessing_refuses(response: &[u8]) {
    let mut server = python::server(1);
    server.output();
    let named = [LABEL, response].concat();
    assert_eq!(server.answer(&countersign_tests::frame(&named)), FAILURE_FRAME);
    assert_eq!(server.error, Some(Error::WrongKey));
}

/// The challenges include the exact HMAC inputs of `mutual`, behind the label of the digest.
#[test]
fn multiprocessing_response_is_no_proof_in_mutual() {
    let Handshake { m1, m2, m3 } = established().2;
    let unproved = |message: &[u8]| message[..message.len() - PROOF_LEN].to_vec();
    let hash = |messages: &[&[u8]]| {
        let transcript = [b"countersign/1\0", &messages.concat()[..]].concat();
        Sha256::digest(transcript).to_vec()
    };
    let client_proves = [b"client", &hash(&[&m1, &unproved(&m2)])[..]].concat();
    let server_proves = [b"server", &hash(&[&m1, &m2, &unproved(&m3)])[..]].concat();
    let challenges = [
        m1[m1.len() - 32..].to_vec(),
        m1.clone(),
        unproved(&m2),
        unproved(&m3),
        client_proves,
        server_proves,
    ];
    for proof in challenges.iter().flat_map(|challenge| labelled_responses(challenge)) {
        assert_eq!(proof.len(), PROOF_LEN);
        let mut server = Party::server().start();
        server.output();
        assert_eq!(server.answer(&[unproved(&m2), proof.clone()].concat()), alert(1));
        assert_eq!(server.error, Some(Error::WrongKey));
        let mut client = Party::client().start();
        client.feed(&m1);
        client.output();
        assert_eq!(client.answer(&[unproved(&m3), proof].concat()), b"");
        assert_eq!(client.error, Some(Error::WrongKey));
    }
}

/// A client of `mutual` gets random bytes of a `multiprocessing` challenge as its nonce.
#[test]
fn mutual_proof_is_no_multiprocessing_response() {
    let challenge = python::server(1).output();
    for random in [&challenge[challenge.len() - 32..], &challenge_message(&challenge)[..32]] {
        let mut m1 = Party::server().start().output();
        let at = m1.len() - 32;
        m1[at..].copy_from_slice(random);
        let m2 = Party::client().start().answer(&m1);
        assert_multiprocessing_refuses(&m2[m2.len() - PROOF_LEN..]);
    }
    let Handshake { m2, m3, .. } = established().2;
    for message in [m2, m3] {
        assert_multiprocessing_refuses(&message[message.len() - PROOF_LEN..]);
    }
}

/// A challenge of the scheme `challenge` has 32 bytes. One of `multiprocessing` starts with a label
/// or has 20.
#[test]
fn challenge_and_multiprocessing_responses_are_distinct() {
    let challenge = python::server(1).output();
    let message = challenge_message(&challenge);
    for chunk in [&message[..32], &message[message.len() - 32..]] {
        assert_multiprocessing_refuses(&client(9).answer(chunk));
    }
    let challenge = server(1).output();
    let mut answering = python::client(9);
    assert_eq!(answering.answer(&challenge_frame(&challenge)), b"");
    assert_eq!((answering.error, answering.events.len()), (Some(Error::Malformed), 0));
    for response in
        labelled_responses(&challenge).into_iter().chain(labelled_responses(&challenge[8..]))
    {
        assert_server_refuses(server(1), &response);
    }
}

/// An answer would help an attacker who guesses secrets.
#[test]
fn client_does_not_answer_a_server_of_another_scheme() {
    let greeting = python::server(1).output();
    let m1 = Party::server().start().output();
    let cases = [
        (client(9), &greeting),
        (Party::client().start(), &greeting),
        (python::client(9), &m1),
        (client(9), &m1),
        (python::client(9), &server(1).output()),
    ];
    for (number, (mut client, greeting)) in cases.into_iter().enumerate() {
        assert_eq!(client.answer(greeting), b"", "{number}");
        assert_eq!(client.error, Some(Error::Malformed), "{number}");
        assert!(!client.events.contains(&Event::KeyNeeded), "{number}");
    }
}
