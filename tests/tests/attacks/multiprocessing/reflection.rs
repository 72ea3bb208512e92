//! The scheme has one key and no roles, so whoever has no key can pass one end's challenge to
//! another. Ends of one process answer no challenge of each other's; those of two do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::Waker;

use countersign::{Digest, Error, Instant, KeyRejection, Outbox, Peer, Role};
use countersign_driver::{Chunk, Connection, Flow, Io, Progress, Service};
use countersign_host::{
    BoxedProtocol, KeyList, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory,
    SessionFactory,
};
use countersign_tests::Policy;

use super::{FAILURE_FRAME, WELCOME_FRAME, ask, asked, config, guess, keys, message, policies};
use crate::ends::SECRET;

const NOW: Instant = Instant::EPOCH;
const REFLECTED: Option<Error> = Some(Error::Refused(KeyRejection::Reflected));

/// A process that holds the key, in both roles.
struct Process {
    policy: Policy,
    outstanding: OutstandingChallenges,
}

impl Process {
    fn new(policy: Policy) -> Self {
        Self { policy, outstanding: OutstandingChallenges::new() }
    }

    fn sessions(&self, role: Role) -> SessionFactory {
        let pools = Pools::new(&PoolOptions::default());
        let sessions = SessionFactory::new(config(self.policy, role), pools);
        sessions.with_outstanding(self.outstanding.clone())
    }

    /// A client that has connected to the attacker.
    fn client(&self) -> Line {
        Line::new(self.sessions(Role::Client).client(Waker::noop(), NOW).unwrap())
    }

    /// A server that the attacker has connected to.
    fn server(&self) -> Line {
        Line::new(self.sessions(Role::Server).server(Waker::noop(), NOW).unwrap())
    }

    fn outstanding(&self) -> String {
        format!("{:?}", self.outstanding)
    }
}

/// One of our connections in its turns, with the attacker at the other end.
struct Line {
    connection: Connection<BoxedProtocol, Listener>,
    wire: Wire,
    keys: KeyList,
}

/// Says nothing, and notes who is there.
#[derive(Default)]
struct Listener {
    authenticated: bool,
    heard: Vec<u8>,
}

impl Service for Listener {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.authenticated = peer.authenticated;
    }

    fn on_message(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.heard.extend(chunk.bytes);
        Flow::Consumed
    }
}

#[derive(Default)]
struct Wire {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Io for Wire {
    type Error = Infallible;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Infallible> {
        let n = into.len().min(self.input.len());
        into.iter_mut().zip(self.input.drain(..n)).for_each(|(to, from)| *to = from);
        Ok((n > 0).then_some(n))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Infallible> {
        self.output.extend(from);
        Ok(Some(from.len()))
    }

    fn shut_write(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Line {
    fn new(machine: BoxedProtocol) -> Self {
        let connection = Connection::new(machine, Listener::default());
        Self { connection, wire: Wire::default(), keys: keys(SECRET).into_iter().collect() }
    }

    /// What it says, after it has heard `bytes`.
    fn hears(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.wire.input.extend(bytes);
        while let Progress::Yield = self.connection.turn(&mut self.wire, &self.keys, NOW) {}
        std::mem::take(&mut self.wire.output)
    }

    /// The challenge of a server.
    fn greeting(&mut self) -> Vec<u8> {
        self.hears(b"")
    }

    fn is_established(&self) -> bool {
        assert_eq!(self.connection.established(), self.connection.service().authenticated);
        self.connection.established()
    }

    fn error(&self) -> Option<Error> {
        self.connection.error()
    }
}

/// A digest that an end of `policy` answers by.
fn digest(policy: Policy) -> Digest {
    match policy {
        Policy::Strict(digest) | Policy::Compatible(digest, _) => digest,
    }
}

/// The message by which a client challenges the attacker, who plays its server: he has it answer a
/// challenge of his own, which leads to nothing, and welcomes it.
fn lure(client: &mut Line, policy: Policy) -> Vec<u8> {
    assert_eq!(client.hears(b""), b"");
    assert_ne!(client.hears(&ask(&message(digest(policy), b'x'))), b"");
    asked(&client.hears(WELCOME_FRAME)).to_vec()
}

/// Has a client of another process answer the challenge of `server`, which then is to be challenged
/// by the attacker. Returns its challenge.
fn enter(server: &mut Line, other: &Process) -> Vec<u8> {
    let challenge = server.greeting();
    let response = other.client().hears(&challenge);
    assert_eq!(server.hears(&response), WELCOME_FRAME);
    asked(&challenge).to_vec()
}

/// It says nothing, and knows why.
fn refuses(mut end: Line, message: &[u8]) {
    assert_eq!(end.hears(&ask(message)), b"");
    assert_eq!(end.error(), REFLECTED);
    assert!(!end.is_established());
}

/// The client that was lured takes nobody who has nothing to answer it.
fn is_left_alone(mut client: Line, policy: Policy) {
    assert_eq!(client.hears(&guess(digest(policy))), FAILURE_FRAME);
    assert_eq!(client.error(), Some(Error::WrongKey));
    assert!(!client.is_established());
}

#[test]
fn a_client_does_not_answer_what_another_client_of_its_process_asks() {
    for policy in policies() {
        let process = Process::new(policy);
        let mut first = process.client();
        let challenge = lure(&mut first, policy);
        refuses(process.client(), &challenge);
        is_left_alone(first, policy);
    }
}

#[test]
fn a_client_does_not_answer_what_a_server_of_its_process_asks() {
    for policy in policies() {
        let process = Process::new(policy);
        let mut server = process.server();
        let challenge = server.greeting();
        refuses(process.client(), asked(&challenge));
        is_left_alone(server, policy);
    }
}

/// The attacker gets into the server by a client of another process; it does not answer for all that.
#[test]
fn a_server_does_not_answer_what_a_client_of_its_process_asks() {
    for policy in policies() {
        let (process, other) = (Process::new(policy), Process::new(policy));
        let mut client = process.client();
        let challenge = lure(&mut client, policy);
        let mut server = process.server();
        enter(&mut server, &other);
        refuses(server, &challenge);
        is_left_alone(client, policy);
    }
}

#[test]
fn a_server_does_not_answer_what_another_server_of_its_process_asks() {
    for policy in policies() {
        let (process, other) = (Process::new(policy), Process::new(policy));
        let (mut first, mut second) = (process.server(), process.server());
        let challenge = first.greeting();
        enter(&mut second, &other);
        refuses(second, asked(&challenge));
        is_left_alone(first, policy);
    }
}

#[test]
fn an_end_does_not_answer_its_own_challenge() {
    for policy in policies() {
        let (process, other) = (Process::new(policy), Process::new(policy));
        let mut server = process.server();
        let challenge = enter(&mut server, &other);
        refuses(server, &challenge);
        // A client's is known when it waits for a response, and is none.
        let mut client = process.client();
        let challenge = lure(&mut client, policy);
        assert_eq!(client.hears(&ask(&challenge)), FAILURE_FRAME);
        assert_eq!(client.error(), Some(Error::Malformed));
    }
}

#[test]
fn the_long_form_of_a_length_makes_no_other_challenge_of_it() {
    let policy = Policy::Strict(Digest::Sha256);
    let process = Process::new(policy);
    let mut server = process.server();
    let challenge = server.greeting();
    let long = [&[0xff; 4][..], &[0; 4], &challenge].concat();
    let mut client = process.client();
    assert_eq!(client.hears(&long), b"");
    assert_eq!(client.error(), REFLECTED);
}

/// Nobody has to tell the sessions of a process that they are of one.
#[test]
fn sessions_know_the_challenges_of_their_process_unasked() {
    let policy = Policy::Strict(Digest::Sha256);
    let sessions = |role| {
        let pools = Pools::new(&PoolOptions::default());
        SessionFactory::new(config(policy, role), pools)
    };
    let server = sessions(Role::Server).server(Waker::noop(), NOW).unwrap();
    let client = sessions(Role::Client).client(Waker::noop(), NOW).unwrap();
    let challenge = Line::new(server).greeting();
    // Of a server that is gone.
    assert_ne!(Line::new(client).hears(&challenge), b"");

    let mut server = Line::new(sessions(Role::Server).server(Waker::noop(), NOW).unwrap());
    let client = sessions(Role::Client).client(Waker::noop(), NOW).unwrap();
    refuses(Line::new(client), asked(&server.greeting()));
}

/// The limit of it: a keyless listener to which a client of each of two processes connects.
#[test]
fn two_processes_of_one_key_answer_each_other_s_challenges_for_whoever_asks() {
    for policy in policies() {
        let [one, two] = [Process::new(policy), Process::new(policy)];
        let mut victim = one.client();
        let challenge = lure(&mut victim, policy);
        let response = two.client().hears(&ask(&challenge));
        assert_eq!(victim.hears(&response), WELCOME_FRAME);
        assert!(victim.is_established(), "it takes somebody for a holder of the key who is none");
        assert_eq!(victim.hears(b"\0\0\0\x05thief"), b"");
        assert_eq!(victim.connection.service().heard, b"thief");
    }
}

/// The same with a server: whoever has a client connect to them can speak to a server in its place.
#[test]
fn a_server_lets_in_whoever_has_a_client_of_another_process_answer() {
    for policy in policies() {
        let [one, two] = [Process::new(policy), Process::new(policy)];
        let mut server = one.server();
        enter(&mut server, &two);
        assert_ne!(server.hears(&ask(&message(digest(policy), b'x'))), b"");
        assert_eq!(server.hears(WELCOME_FRAME), b"");
        assert!(server.is_established());
    }
}

#[test]
fn a_challenge_is_outstanding_as_long_as_its_session_may_take_an_answer() {
    let policy = Policy::Strict(Digest::Sha256);
    let [one, two] = [Process::new(policy), Process::new(policy)];
    let none = Process::new(policy).outstanding();
    // From before it is known to anybody.
    let mut client = one.client();
    assert_ne!(one.outstanding(), none);
    let mut server = two.server();
    let mut said = server.greeting();
    for turn in 1..6 {
        assert_ne!(two.outstanding(), none, "{turn}");
        assert!(turn == 5 || one.outstanding() != none, "{turn}");
        said = if turn % 2 == 1 { client.hears(&said) } else { server.hears(&said) };
    }
    assert_eq!(server.hears(&said), b"");
    assert!(client.is_established() && server.is_established());
    assert_eq!((one.outstanding(), two.outstanding()), (none.clone(), none.clone()));

    let mut failed = one.server();
    failed.greeting();
    failed.hears(&guess(digest(policy)));
    assert_eq!(one.outstanding(), none);
    let dropped = one.server();
    assert_ne!(one.outstanding(), none);
    drop(dropped);
    assert_eq!(one.outstanding(), none);
}
