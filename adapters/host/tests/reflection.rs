//! Challenges that come back, in the scheme `multiprocessing`: machines as [`SessionFactory`] makes them,
//! with somebody between them who has no key.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::task::Waker;

use countersign::{
    Candidates, Config, Digest, Error, Event, Instant, Key, KeyRejection, Multiprocessing, Scheme,
};
use countersign_host::{
    BoxedProtocol, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory, SessionFactory,
};

const NOW: Instant = Instant::EPOCH;

/// What a process makes its sessions with.
fn process(outstanding: &OutstandingChallenges) -> SessionFactory {
    let config = Config::new(Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)));
    let pools = Pools::new(&PoolOptions::default());
    SessionFactory::new(config, pools).with_outstanding(outstanding.clone())
}

fn client(process: &SessionFactory) -> BoxedProtocol {
    process.client(Waker::noop(), NOW).unwrap()
}

fn server(process: &SessionFactory) -> BoxedProtocol {
    process.server(Waker::noop(), NOW).unwrap()
}

/// Has `machine` hear `bytes`; returns what it says, or how it ended.
fn tell(machine: &mut BoxedProtocol, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let key = Key::challenge(Digest::Sha256, b"the key of both").unwrap();
    loop {
        match machine.poll_event(NOW)? {
            Some(Event::KeyNeeded) => machine.provide_key(Ok(Candidates::one(&key)), NOW).unwrap(),
            Some(_) => {}
            None => {
                let space = machine.recv_space();
                let n = space.len().min(bytes.len());
                space[..n].copy_from_slice(&bytes[..n]);
                machine.handle_received(n, NOW);
                bytes = &bytes[n..];
                if n == 0 {
                    return Ok(said(machine));
                }
            }
        }
    }
}

/// All that `machine` has to say.
fn said(machine: &mut BoxedProtocol) -> Vec<u8> {
    let bytes = machine.poll_transmit(NOW).to_vec();
    machine.handle_transmitted(bytes.len(), NOW);
    machine.poll_event(NOW).unwrap();
    bytes
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// A challenge that anybody can make.
fn made_up() -> Vec<u8> {
    frame(&[&b"#CHALLENGE#{sha256}"[..], &[0x42; 40]].concat())
}

/// The challenge of a client that takes its peer for a server.
fn challenge_of(client: &mut BoxedProtocol) -> Vec<u8> {
    tell(client, &made_up()).unwrap();
    tell(client, &frame(b"#WELCOME#")).unwrap()
}

#[test]
fn a_clients_challenge_is_answered_by_no_other_client_and_no_server_of_its_process() {
    let here = process(&OutstandingChallenges::new());
    let mut first = client(&here);
    let challenge = challenge_of(&mut first);
    assert_eq!(tell(&mut client(&here), &challenge), Err(Error::Refused(KeyRejection::Reflected)));
    // A server asks first, and hears a challenge only from whom it has welcomed.
    let mut asked = server(&here);
    let greeting = said(&mut asked);
    assert_eq!(tell(&mut client(&here), &greeting), Err(Error::Refused(KeyRejection::Reflected)));
}

#[test]
fn between_two_processes_a_challenge_can_be_passed_on() {
    let (here, there) =
        (process(&OutstandingChallenges::new()), process(&OutstandingChallenges::new()));
    let mut fooled = client(&here);
    let challenge = challenge_of(&mut fooled);
    let answer = tell(&mut client(&there), &challenge).unwrap();
    assert_eq!(tell(&mut fooled, &answer), Ok(frame(b"#WELCOME#")));
    assert!(fooled.peer().unwrap().authenticated);
}

#[test]
fn a_challenge_is_outstanding_until_it_is_of_no_use() {
    let outstanding = OutstandingChallenges::new();
    let here = process(&outstanding);
    let len = |n: usize| {
        assert_eq!(format!("{outstanding:?}"), format!("OutstandingChallenges {{ len: {n} }}"))
    };
    len(0);
    let (mut one, mut two) = (client(&here), server(&here));
    len(2);
    two.abort(countersign::CloseReason::Shutdown, NOW);
    len(2);
    assert!(two.poll_event(NOW).is_err());
    len(1);
    assert!(tell(&mut one, &frame(b"no challenge")).is_err());
    len(0);
    let (mut caller, elsewhere) = (client(&here), process(&OutstandingChallenges::new()));
    let mut called = server(&elsewhere);
    len(1);
    let mut to_caller = said(&mut called);
    for _ in 0..3 {
        let to_called = tell(&mut caller, &to_caller).unwrap();
        to_caller = tell(&mut called, &to_called).unwrap();
    }
    assert!(caller.peer().is_some() && called.peer().is_some());
    len(0);
    drop(server(&here));
    len(0);
}

#[test]
fn a_process_has_one_set_of_challenges_unless_told_otherwise() {
    let config = Config::new(Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)));
    let sessions = || SessionFactory::new(config.clone(), Pools::new(&PoolOptions::default()));
    let greeting = said(&mut server(&sessions()));
    // The server is gone, and with it what its challenge was good for.
    assert!(tell(&mut client(&sessions()), &greeting).is_ok());
    let mut asking = server(&sessions());
    let greeting = said(&mut asking);
    let asked = tell(&mut client(&sessions()), &greeting);
    assert_eq!(asked, Err(Error::Refused(KeyRejection::Reflected)));
}
