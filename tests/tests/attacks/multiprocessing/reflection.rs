//! The scheme has one key and no roles, so an attacker without the key can relay the challenge of
//! one endpoint to another. Endpoints of one process refuse each other's challenges; those of two
//! processes do not.

use std::collections::VecDeque;
use std::convert::Infallible;

use countersign::{Digest, Error, Instant, KeyRejection, Outbox, Peer, Role};
use countersign_driver::{Chunk, Flow, Io, Progress, ServiceConnection, StreamService};
use countersign_host::{
    BoxedProtocol, KeyList, LeaseHolder, OutstandingChallenges, PoolOptions, Pools,
    ProtocolFactory, SessionFactory,
};
use countersign_tests::Policy;

use super::{
    FAILURE_FRAME, WELCOME_FRAME, challenge_frame, challenge_message, config, guess, keys, message,
    policies,
};
use crate::party::SECRET;

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

    /// Returns a client that has connected to the attacker.
    fn client(&self) -> AttackedConnection {
        AttackedConnection::new(
            self.sessions(Role::Client).client(&LeaseHolder::default(), NOW).unwrap(),
        )
    }

    /// Returns a server to which the attacker has connected.
    fn server(&self) -> AttackedConnection {
        AttackedConnection::new(
            self.sessions(Role::Server).server(&LeaseHolder::default(), NOW).unwrap(),
        )
    }

    fn outstanding(&self) -> String {
        format!("{:?}", self.outstanding)
    }
}

/// A connection of the process, with the attacker as its peer.
struct AttackedConnection {
    connection: ServiceConnection<BoxedProtocol, Recorder, Infallible>,
    transport: MemoryTransport,
    keys: KeyList,
}

/// Sends nothing, and records the peer and the data received.
#[derive(Default)]
struct Recorder {
    authenticated: bool,
    received: Vec<u8>,
}

impl StreamService for Recorder {
    fn on_open(&mut self, peer: &Peer<'_>, _: &mut Outbox<'_>, _: Instant) {
        self.authenticated = peer.authenticated;
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.received.extend(chunk.bytes);
        Flow::Consumed
    }
}

#[derive(Default)]
struct MemoryTransport {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Io for MemoryTransport {
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

impl AttackedConnection {
    fn new(protocol: BoxedProtocol) -> Self {
        let connection = ServiceConnection::new(protocol, Recorder::default());
        Self {
            connection,
            transport: MemoryTransport::default(),
            keys: keys(SECRET).into_iter().collect(),
        }
    }

    /// Lets the connection receive `bytes` and returns its output.
    fn exchange(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.transport.input.extend(bytes);
        while let Progress::Event(_) | Progress::Yield =
            self.connection.poll(&mut self.transport, &self.keys, NOW)
        {}
        std::mem::take(&mut self.transport.output)
    }

    /// Returns the challenge of a server.
    fn greeting(&mut self) -> Vec<u8> {
        self.exchange(b"")
    }

    fn is_established(&self) -> bool {
        assert_eq!(
            self.connection.driver().is_established(),
            self.connection.service().authenticated
        );
        self.connection.driver().is_established()
    }

    fn error(&self) -> Option<Error> {
        self.connection.driver().error()
    }
}

/// Returns a digest with which an endpoint of `policy` answers.
fn digest(policy: Policy) -> Digest {
    match policy {
        Policy::Strict(digest) | Policy::Compatible(digest, _) => digest,
    }
}

/// Returns the message of a client's challenge. The attacker plays the server: it lets the client
/// answer a challenge of its own and welcomes it.
fn obtain_challenge(client: &mut AttackedConnection, policy: Policy) -> Vec<u8> {
    assert_eq!(client.exchange(b""), b"");
    assert_ne!(client.exchange(&challenge_frame(&message(digest(policy), b'x'))), b"");
    challenge_message(&client.exchange(WELCOME_FRAME)).to_vec()
}

/// Lets a client of another process answer the challenge of `server`, which then waits for the
/// attacker's challenge. Returns the message of its challenge.
fn relay_response(server: &mut AttackedConnection, other: &Process) -> Vec<u8> {
    let challenge = server.greeting();
    let response = other.client().exchange(&challenge);
    assert_eq!(server.exchange(&response), WELCOME_FRAME);
    challenge_message(&challenge).to_vec()
}

/// Requires that the endpoint sends nothing and reports the reflection.
fn assert_reflected(mut end: AttackedConnection, message: &[u8]) {
    assert_eq!(end.exchange(&challenge_frame(message)), b"");
    assert_eq!(end.error(), REFLECTED);
    assert!(!end.is_established());
}

/// Requires that the client refuses an attacker who has no answer.
fn assert_not_deceived(mut client: AttackedConnection, policy: Policy) {
    assert_eq!(client.exchange(&guess(digest(policy))), FAILURE_FRAME);
    assert_eq!(client.error(), Some(Error::WrongKey));
    assert!(!client.is_established());
}

#[test]
fn client_refuses_a_challenge_of_a_client_of_its_process() {
    for policy in policies() {
        let process = Process::new(policy);
        let mut first = process.client();
        let challenge = obtain_challenge(&mut first, policy);
        assert_reflected(process.client(), &challenge);
        assert_not_deceived(first, policy);
    }
}

#[test]
fn client_refuses_a_challenge_of_a_server_of_its_process() {
    for policy in policies() {
        let process = Process::new(policy);
        let mut server = process.server();
        let challenge = server.greeting();
        assert_reflected(process.client(), challenge_message(&challenge));
        assert_not_deceived(server, policy);
    }
}

/// The attacker gets past the server's own challenge with a client of another process. The server
/// still refuses to answer.
#[test]
fn server_refuses_a_challenge_of_a_client_of_its_process() {
    for policy in policies() {
        let (process, other) = (Process::new(policy), Process::new(policy));
        let mut client = process.client();
        let challenge = obtain_challenge(&mut client, policy);
        let mut server = process.server();
        relay_response(&mut server, &other);
        assert_reflected(server, &challenge);
        assert_not_deceived(client, policy);
    }
}

#[test]
fn server_refuses_a_challenge_of_a_server_of_its_process() {
    for policy in policies() {
        let (process, other) = (Process::new(policy), Process::new(policy));
        let (mut first, mut second) = (process.server(), process.server());
        let challenge = first.greeting();
        relay_response(&mut second, &other);
        assert_reflected(second, challenge_message(&challenge));
        assert_not_deceived(first, policy);
    }
}

#[test]
fn endpoint_refuses_its_own_challenge() {
    for policy in policies() {
        let (process, other) = (Process::new(policy), Process::new(policy));
        let mut server = process.server();
        let challenge = relay_response(&mut server, &other);
        assert_reflected(server, &challenge);
        // A client's challenge is known only once it waits for a response, where a challenge is
        // malformed.
        let mut client = process.client();
        let challenge = obtain_challenge(&mut client, policy);
        assert_eq!(client.exchange(&challenge_frame(&challenge)), FAILURE_FRAME);
        assert_eq!(client.error(), Some(Error::Malformed));
    }
}

#[test]
fn long_length_form_does_not_hide_a_reflected_challenge() {
    let policy = Policy::Strict(Digest::Sha256);
    let process = Process::new(policy);
    let mut server = process.server();
    let challenge = server.greeting();
    let long = [&[0xff; 4][..], &[0; 4], &challenge].concat();
    let mut client = process.client();
    assert_eq!(client.exchange(&long), b"");
    assert_eq!(client.error(), REFLECTED);
}

/// Factories need no common set of challenges to be passed to them.
#[test]
fn factories_of_a_process_share_challenges_by_default() {
    let policy = Policy::Strict(Digest::Sha256);
    let sessions = |role| {
        let pools = Pools::new(&PoolOptions::default());
        SessionFactory::new(config(policy, role), pools)
    };
    let server = sessions(Role::Server).server(&LeaseHolder::default(), NOW).unwrap();
    let client = sessions(Role::Client).client(&LeaseHolder::default(), NOW).unwrap();
    let challenge = AttackedConnection::new(server).greeting();
    // The server is gone, and with it its outstanding challenge.
    assert_ne!(AttackedConnection::new(client).exchange(&challenge), b"");

    let mut server = AttackedConnection::new(
        sessions(Role::Server).server(&LeaseHolder::default(), NOW).unwrap(),
    );
    let client = sessions(Role::Client).client(&LeaseHolder::default(), NOW).unwrap();
    assert_reflected(AttackedConnection::new(client), challenge_message(&server.greeting()));
}

/// The limit of the scheme: clients of two processes connect to one listener without the key.
#[test]
fn challenges_can_be_relayed_between_processes() {
    for policy in policies() {
        let [one, two] = [Process::new(policy), Process::new(policy)];
        let mut victim = one.client();
        let challenge = obtain_challenge(&mut victim, policy);
        let response = two.client().exchange(&challenge_frame(&challenge));
        assert_eq!(victim.exchange(&response), WELCOME_FRAME);
        assert!(victim.is_established(), "it accepts an attacker without the key");
        assert_eq!(victim.exchange(b"\0\0\0\x05thief"), b"");
        assert_eq!(victim.connection.service().received, b"thief");
    }
}

/// The same with a server: an attacker who receives a client's connection reaches a server in its
/// place.
#[test]
fn server_admits_an_attacker_who_relays_its_challenge() {
    for policy in policies() {
        let [one, two] = [Process::new(policy), Process::new(policy)];
        let mut server = one.server();
        relay_response(&mut server, &two);
        assert_ne!(server.exchange(&challenge_frame(&message(digest(policy), b'x'))), b"");
        assert_eq!(server.exchange(WELCOME_FRAME), b"");
        assert!(server.is_established());
    }
}

#[test]
fn challenge_is_outstanding_until_it_can_no_longer_be_answered() {
    let policy = Policy::Strict(Digest::Sha256);
    let [one, two] = [Process::new(policy), Process::new(policy)];
    let none = Process::new(policy).outstanding();
    // The challenge is registered before it is sent.
    let mut client = one.client();
    assert_ne!(one.outstanding(), none);
    let mut server = two.server();
    let mut frames = server.greeting();
    for round in 1..6 {
        assert_ne!(two.outstanding(), none, "{round}");
        assert!(round == 5 || one.outstanding() != none, "{round}");
        frames = if round % 2 == 1 { client.exchange(&frames) } else { server.exchange(&frames) };
    }
    assert_eq!(server.exchange(&frames), b"");
    assert!(client.is_established() && server.is_established());
    assert_eq!((one.outstanding(), two.outstanding()), (none.clone(), none.clone()));

    let mut failed = one.server();
    failed.greeting();
    failed.exchange(&guess(digest(policy)));
    assert_eq!(one.outstanding(), none);
    let dropped = one.server();
    assert_ne!(one.outstanding(), none);
    drop(dropped);
    assert_eq!(one.outstanding(), none);
}
