//! Reflected challenges in the scheme `multiprocessing`: sessions of [`SessionFactory`], with an attacker
//! without the key between them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::task::Waker;

use countersign::{
    Candidates, Config, Digest, Error, Event, Instant, Key, KeyRejection, Multiprocessing, Scheme,
};
use countersign_host::{
    BoxedProtocol, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory, SessionFactory,
};

const NOW: Instant = Instant::EPOCH;

/// The session factory of a process.
fn process(outstanding: &OutstandingChallenges) -> SessionFactory {
    let config = Config::new(Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)));
    let pools = Pools::new(&PoolOptions::default());
    SessionFactory::new(config, pools).with_outstanding(outstanding.clone())
}

fn client(process: &SessionFactory) -> BoxedProtocol {
    process.client(&Waker::noop().into(), NOW).unwrap()
}

fn server(process: &SessionFactory) -> BoxedProtocol {
    process.server(&Waker::noop().into(), NOW).unwrap()
}

/// Passes `bytes` to `protocol`; returns what it sends, or its error.
fn receive(protocol: &mut BoxedProtocol, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let key = Key::challenge(Digest::Sha256, b"the key of both").unwrap();
    loop {
        match protocol.poll_event(NOW)? {
            Some(Event::KeyNeeded) => protocol.provide_key(Ok(Candidates::one(&key)), NOW).unwrap(),
            Some(_) => {}
            None => {
                let space = protocol.recv_space();
                let n = space.len().min(bytes.len());
                space[..n].copy_from_slice(&bytes[..n]);
                protocol.handle_received(n, NOW);
                bytes = &bytes[n..];
                if n == 0 {
                    return Ok(sent(protocol));
                }
            }
        }
    }
}

/// All bytes that `protocol` sends.
fn sent(protocol: &mut BoxedProtocol) -> Vec<u8> {
    let bytes = protocol.poll_transmit(NOW).to_vec();
    protocol.handle_transmitted(bytes.len(), NOW);
    protocol.poll_event(NOW).unwrap();
    bytes
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// A challenge of the attacker.
fn attackers_challenge() -> Vec<u8> {
    frame(&[&b"#CHALLENGE#{sha256}"[..], &[0x42; 40]].concat())
}

/// The challenge that a client sends once it has been welcomed.
fn challenge_of(client: &mut BoxedProtocol) -> Vec<u8> {
    receive(client, &attackers_challenge()).unwrap();
    receive(client, &frame(b"#WELCOME#")).unwrap()
}

#[test]
fn challenge_is_not_answered_within_its_process() {
    let here = process(&OutstandingChallenges::new());
    let mut first = client(&here);
    let challenge = challenge_of(&mut first);
    assert_eq!(
        receive(&mut client(&here), &challenge),
        Err(Error::Refused(KeyRejection::Reflected))
    );
    // A server sends its challenge first, and accepts one only from a client that it has welcomed.
    let mut challenging = server(&here);
    let challenge = sent(&mut challenging);
    assert_eq!(
        receive(&mut client(&here), &challenge),
        Err(Error::Refused(KeyRejection::Reflected))
    );
}

#[test]
fn challenge_can_be_forwarded_between_processes() {
    let (here, there) =
        (process(&OutstandingChallenges::new()), process(&OutstandingChallenges::new()));
    let mut victim = client(&here);
    let challenge = challenge_of(&mut victim);
    let response = receive(&mut client(&there), &challenge).unwrap();
    assert_eq!(receive(&mut victim, &response), Ok(frame(b"#WELCOME#")));
    assert!(victim.peer().unwrap().authenticated);
}

#[test]
fn challenge_is_outstanding_until_its_handshake_ends() {
    let outstanding = OutstandingChallenges::new();
    let here = process(&outstanding);
    let len = |n: usize| {
        assert_eq!(format!("{outstanding:?}"), format!("OutstandingChallenges {{ len: {n} }}"));
    };
    len(0);
    let (mut one, mut two) = (client(&here), server(&here));
    len(2);
    two.abort(countersign::CloseReason::Shutdown, NOW);
    len(2);
    assert!(two.poll_event(NOW).is_err());
    len(1);
    assert!(receive(&mut one, &frame(b"no challenge")).is_err());
    len(0);
    let (mut connecting, elsewhere) = (client(&here), process(&OutstandingChallenges::new()));
    let mut accepting = server(&elsewhere);
    len(1);
    let mut to_client = sent(&mut accepting);
    for _ in 0..3 {
        let to_server = receive(&mut connecting, &to_client).unwrap();
        to_client = receive(&mut accepting, &to_server).unwrap();
    }
    assert!(connecting.peer().is_some() && accepting.peer().is_some());
    len(0);
    drop(server(&here));
    len(0);
}

#[test]
fn sessions_of_a_process_share_challenges_by_default() {
    let config = Config::new(Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)));
    let sessions = || SessionFactory::new(config.clone(), Pools::new(&PoolOptions::default()));
    let challenge = sent(&mut server(&sessions()));
    // The server was dropped, so its challenge is not outstanding.
    assert!(receive(&mut client(&sessions()), &challenge).is_ok());
    let mut challenging = server(&sessions());
    let challenge = sent(&mut challenging);
    let result = receive(&mut client(&sessions()), &challenge);
    assert_eq!(result, Err(Error::Refused(KeyRejection::Reflected)));
}
