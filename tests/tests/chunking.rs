//! How bytes are split into chunks changes no result (docs/ARCHITECTURE.md, "One parser").
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Alert, Config, Error, Framing, Key, KeyRejection, Role, Session, Truncated};
use countersign_tests::python::FAILURE_FRAME;
use countersign_tests::{
    ANOTHER_SECRET, Application, ChunkSizes, Endpoint, FrameProtection, HonestPeer, KeySet,
    LeasedBuffer, Observed, PeerInfo, PeerStream, Pools, SECRET, SessionSpec, actions, bytes,
    chunk_sizes, config, drive_pair, drive_with, endpoint_name, messages, peer_role, role,
    session_spec, tampered,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Length of an M1 that offers one suite, in bytes. Each further suite adds one.
const M1_LEN: usize = 45;
/// Length of an alert in bytes.
const ALERT_LEN: usize = 6;

fn end_config(spec: SessionSpec, role: Role) -> Config {
    spec.config(role, HonestPeer::HEARTBEAT)
}

/// Makes a session with `extra` bytes in each buffer beyond what it needs.
fn session(
    spec: SessionSpec,
    role: Role,
    config: &Config,
    (receive, send): (usize, usize),
) -> Session<LeasedBuffer> {
    let sizes = (config.receive_len() + receive, Config::MIN_BUFFER + send);
    spec.session(role, config, &Pools::default(), sizes)
}

fn sizes() -> impl Strategy<Value = (usize, usize)> {
    let size = || prop_oneof![Just(0_usize), 0..236_usize];
    (size(), size())
}

/// The key of an endpoint, in most cases the right one.
#[derive(Clone, Copy, Debug)]
enum KeyChoice {
    Right,
    Wrong,
    None,
}

fn key_choice() -> impl Strategy<Value = KeyChoice> {
    use KeyChoice::{None, Right, Wrong};
    prop_oneof![6 => Just(Right), 1 => Just(Wrong), 1 => Just(None)]
}

impl KeyChoice {
    fn keys(self, spec: SessionSpec) -> KeySet {
        match self {
            Self::Right => spec.keys(SECRET),
            Self::Wrong => spec.keys(ANOTHER_SECRET),
            Self::None => Err(KeyRejection::Unknown),
        }
    }
}

/// A client that sends `messages` to a server that echoes them.
#[derive(Clone, Debug)]
struct Conversation {
    spec: SessionSpec,
    /// Longest frame that the server accepts, in bytes.
    max_frame: u64,
    client: (KeyChoice, (usize, usize)),
    server: (KeyChoice, (usize, usize)),
    messages: Vec<Vec<u8>>,
    chunk: usize,
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let max_frame = prop_oneof![4 => Just(1_u64 << 20), 1 => 0..700_u64];
    (
        (session_spec(), max_frame),
        (key_choice(), sizes()),
        (key_choice(), sizes()),
        messages(),
        1..400_usize,
    )
        .prop_map(|((spec, max_frame), client, server, messages, chunk)| Conversation {
            spec,
            max_frame,
            client,
            server,
            messages,
            chunk,
        })
}

/// What both endpoints observed, and the bytes they exchanged.
#[derive(Debug, PartialEq)]
struct Record {
    client: Vec<Observed>,
    server: Vec<Observed>,
    /// What the client and the server knew about their peers.
    peers: [Option<PeerInfo>; 2],
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Conversation {
    fn run(&self, [mut cr, mut cw, mut sr, mut sw]: [ChunkSizes; 4], hold: usize) -> Record {
        let spec = self.spec;
        let end = |role, config: &Config, sizes, app| {
            Endpoint::new(session(spec, role, config, sizes), app)
        };
        let sender =
            Application::sending(self.client.0.keys(spec), self.messages.clone(), self.chunk);
        let echo = Application::echo(self.server.0.keys(spec), hold);
        let config = end_config(spec, Role::Client);
        let mut client = end(Role::Client, &config, self.client.1, sender);
        let strict = end_config(spec, Role::Server).with_max_frame(self.max_frame);
        let mut server = end(Role::Server, &strict, self.server.1, echo);
        let (up, down) =
            drive_pair((&mut client, &mut cr, &mut cw), (&mut server, &mut sr, &mut sw));
        let record = Record {
            client: client.observed().to_vec(),
            server: server.observed().to_vec(),
            peers: [client.peer_info().cloned(), server.peer_info().cloned()],
            up,
            down,
        };
        for observed in [&record.client, &record.server] {
            assert!(
                matches!(observed.last(), Some(Observed::Closed | Observed::Failed(_))),
                "{record:?}"
            );
        }
        record
    }

    /// Returns the bytes of all chunks in `observed`.
    fn payload(observed: &[Observed]) -> Vec<u8> {
        observed
            .iter()
            .filter_map(|observed| match observed {
                Observed::Chunk { bytes, .. } => Some(&bytes[..]),
                _ => None,
            })
            .collect::<Vec<_>>()
            .concat()
    }
}

fn whole() -> [ChunkSizes; 4] {
    [
        ChunkSizes::unlimited(),
        ChunkSizes::unlimited(),
        ChunkSizes::unlimited(),
        ChunkSizes::unlimited(),
    ]
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn chunking_does_not_change_a_session(
        conversation in conversation(),
        chunk_sizes in [chunk_sizes(), chunk_sizes(), chunk_sizes(), chunk_sizes()],
        hold in 0..4_usize,
    ) {
        let expected = conversation.run(whole(), 0);
        let record = conversation.run(chunk_sizes, hold);
        prop_assert_eq!(&record, &expected);
    }

    #[test]
    fn endpoints_with_one_key_exchange_all_messages_and_close(
        mut conversation in conversation(),
        chunk_sizes in [chunk_sizes(), chunk_sizes(), chunk_sizes(), chunk_sizes()],
    ) {
        conversation.max_frame = 700;
        (conversation.client.0, conversation.server.0) = (KeyChoice::Right, KeyChoice::Right);
        let record = conversation.run(chunk_sizes, 0);
        let payload = conversation.messages.concat();
        for observed in [&record.client, &record.server] {
            prop_assert_eq!(&Conversation::payload(observed), &payload);
            prop_assert_eq!(observed.last(), Some(&Observed::Closed));
        }
        let is_first = |it: &&Observed| matches!(it, Observed::Chunk { first: true, .. });
        let firsts = record.client.iter().filter(is_first);
        let expected = match conversation.spec.framing() {
            Framing::Raw => usize::from(!payload.is_empty()),
            _ => conversation.messages.len(),
        };
        prop_assert_eq!(firsts.count(), expected);
    }

    #[test]
    fn endpoints_agree_on_every_field_about_each_other(
        mut conversation in conversation(),
        chunk_sizes in [chunk_sizes(), chunk_sizes(), chunk_sizes(), chunk_sizes()],
    ) {
        (conversation.client.0, conversation.server.0) = (KeyChoice::Right, KeyChoice::Right);
        let spec = conversation.spec;
        let [Some(server), Some(client)] = conversation.run(chunk_sizes, 0).peers else {
            panic!("the handshake did not complete");
        };
        prop_assert_eq!(server.authenticated, spec.authenticates_peer(Role::Client));
        prop_assert_eq!(client.authenticated, spec.authenticates_peer(Role::Server));
        let known = |peer: &PeerInfo| (peer.key_id.clone(), peer.fingerprint, peer.session_id, peer.exporter);
        prop_assert_eq!(known(&server), known(&client));
        if spec.is_mutual() {
            prop_assert_eq!(server.name.as_deref(), Some(endpoint_name(Role::Server)));
            prop_assert_eq!(client.name.as_deref(), Some(endpoint_name(Role::Client)));
            prop_assert_eq!(server.key_id.as_deref(), Some(countersign_tests::KEY_ID));
            prop_assert_eq!(server.fingerprint, Key::mutual(SECRET).unwrap().fingerprint());
            prop_assert!(server.session_id.is_some() && server.exporter.is_some());
        } else {
            prop_assert_eq!(known(&server), (None, None, None, None));
        }
    }

    #[test]
    fn endpoints_with_different_keys_exchange_no_message(
        mut conversation in conversation(),
        chunk_sizes in [chunk_sizes(), chunk_sizes(), chunk_sizes(), chunk_sizes()],
    ) {
        if !conversation.spec.authenticates_peer(Role::Server) {
            conversation.spec = SessionSpec::Mutual(FrameProtection::Tags);
        }
        let spec = conversation.spec;
        (conversation.client.0, conversation.server.0) = (KeyChoice::Right, KeyChoice::Wrong);
        let record = conversation.run(chunk_sizes, 0);
        let wrong_key = Observed::Failed(Error::WrongKey);
        prop_assert_eq!(&record.server, &vec![Observed::KeyNeeded, wrong_key]);
        prop_assert_eq!(Conversation::payload(&record.client), b"");
        let refusal: &[u8] = match spec {
            SessionSpec::Mutual(_) => &[0, 0, 0, 2, 0x7f, 1],
            SessionSpec::Multiprocessing(..) => FAILURE_FRAME,
            SessionSpec::None(_) | SessionSpec::Challenge(..) => b"",
        };
        let down = [&spec.greeting(Role::Server), refusal].concat();
        prop_assert_eq!(&record.down, &down, "more than the first message and the refusal");
        if !refusal.is_empty() {
            let refused = Observed::Failed(Error::Alert(Alert::Refused));
            prop_assert_eq!(&record.client, &vec![Observed::KeyNeeded, refused]);
        }
    }
}

/// One endpoint that echoes, and the bytes that it receives.
#[derive(Clone, Debug)]
struct Attack {
    spec: SessionSpec,
    role: Role,
    sizes: (usize, usize),
    /// What an honest peer would have sent during the handshake.
    handshake: Vec<u8>,
    /// The payload that it would have sent.
    payload: Vec<u8>,
    stream: Vec<u8>,
}

/// What the endpoint observed, and what it sent.
struct Outcome {
    observed: Vec<Observed>,
    sent: Vec<u8>,
}

impl Attack {
    fn session(spec: SessionSpec, role: Role, sizes: (usize, usize)) -> Session<LeasedBuffer> {
        session(spec, role, &end_config(spec, role).with_max_frame(500), sizes)
    }

    fn run(&self, (mut reads, mut writes): (ChunkSizes, ChunkSizes), hold: usize) -> Outcome {
        let app = Application::echo(KeyChoice::Right.keys(self.spec), hold);
        let mut end = Endpoint::new(Self::session(self.spec, self.role, self.sizes), app);
        let sent = drive_with(&mut end, &self.stream, &mut reads, &mut writes);
        Outcome { observed: end.observed().to_vec(), sent }
    }

    /// Returns what an honest peer receives from what the endpoint `sent`, regardless of chunking.
    fn decode(&self, sent: &[u8]) -> Vec<u8> {
        let mut peer = HonestPeer::new(self.spec, peer_role(self.role));
        peer.receive(sent).into_iter().flat_map(|(_, chunk)| chunk).collect()
    }

    fn is_authentic(&self) -> bool {
        self.spec.must_accept(self.role, &self.handshake, &self.stream)
    }
}

impl Outcome {
    fn established(&self) -> Option<&PeerInfo> {
        self.observed.iter().find_map(|observed| match observed {
            Observed::Established(peer) => Some(&**peer),
            _ => None,
        })
    }
}

/// Arbitrary bytes, or the bytes of an honest peer with a few changes.
fn attack() -> impl Strategy<Value = Attack> {
    (session_spec(), any::<bool>())
        .prop_flat_map(|(spec, after_handshake)| attack_on(spec, after_handshake))
}

/// If `after_handshake`, the handshake is left unchanged.
fn attack_on(spec: SessionSpec, after_handshake: bool) -> impl Strategy<Value = Attack> {
    (role(), sizes(), actions()).prop_flat_map(move |(role, sizes, actions)| {
        let tested = Attack::session(spec, role, sizes);
        let PeerStream { bytes: honest, handshake, payload } =
            HonestPeer::stream(spec, tested, &actions);
        let (handshake, behind) = honest.split_at(handshake);
        let (first, changed) =
            if after_handshake { (handshake, behind) } else { (&[][..], &honest[..]) };
        let remaining = prop_oneof![1 => bytes(300), 4 => tampered(changed.to_vec())];
        let (handshake, first) = (handshake.to_vec(), first.to_vec());
        remaining.prop_map(move |remaining| Attack {
            spec,
            role,
            sizes,
            handshake: handshake.clone(),
            payload: payload.clone(),
            stream: [&first[..], &remaining].concat(),
        })
    })
}

fn tagged() -> impl Strategy<Value = SessionSpec> {
    select(&[FrameProtection::Tags, FrameProtection::Bound][..]).prop_map(SessionSpec::Mutual)
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn chunking_does_not_change_the_result_of_hostile_bytes(
        attack in attack(),
        reads in chunk_sizes(),
        writes in chunk_sizes(),
        hold in 0..4_usize,
    ) {
        let mut expected = attack.run((ChunkSizes::unlimited(), ChunkSizes::unlimited()), 0);
        let mut outcome = attack.run((reads, writes), hold);
        for observed in [&expected.observed, &outcome.observed] {
            prop_assert!(matches!(observed.last(), Some(Observed::Closed | Observed::Failed(_))));
        }
        if attack.spec.is_mutual() {
            // Bytes after the peer's FIN are an error unless our own FIN has been sent.
            for observed in [&mut expected.observed, &mut outcome.observed] {
                if let Some(at) = observed.iter().position(|it| *it == Observed::PeerFinished) {
                    observed.truncate(at + 1);
                }
            }
        }
        prop_assert_eq!(&outcome.observed, &expected.observed);
        if outcome.established().is_none() {
            // A failed handshake drops the unsent bytes of its challenge.
            prop_assert!(expected.sent.starts_with(&outcome.sent));
        } else if !attack.spec.is_mutual() {
            prop_assert_eq!(outcome.sent, expected.sent);
        } else if !matches!(
            expected.observed.last(),
            Some(Observed::Failed(Error::PeerClosed(_)))
        ) {
            // When a PONG is sent depends on when the PING arrived.
            prop_assert_eq!(attack.decode(&outcome.sent), attack.decode(&expected.sent));
        }
    }

    #[test]
    fn no_peer_is_authenticated_without_the_right_proof(attack in attack(), reads in chunk_sizes()) {
        let outcome = attack.run((reads, ChunkSizes::unlimited()), 0);
        let (proves, right) = (attack.spec.authenticates_peer(attack.role), attack.is_authentic());
        let authenticated = outcome.established().is_some_and(|peer| peer.authenticated);
        prop_assert_eq!(authenticated, proves && right);
        if !proves || right {
            return Ok(());
        }
        prop_assert_eq!(outcome.established(), None);
        let Some(Observed::Failed(error)) = outcome.observed.last() else { panic!("no failure") };
        match attack.spec {
            SessionSpec::None(_) | SessionSpec::Challenge(..) => {
                let expected = match attack.stream.len() < attack.handshake.len() {
                    true => Error::Truncated(Truncated::Handshake),
                    false => Error::WrongKey,
                };
                prop_assert_eq!(*error, expected);
                prop_assert_eq!(outcome.sent, attack.spec.greeting(Role::Server));
            }
            SessionSpec::Multiprocessing(..) => {
                let expected = matches!(
                    error,
                    Error::Malformed
                        | Error::Incompatible
                        | Error::WrongKey
                        | Error::Truncated(Truncated::Handshake)
                );
                prop_assert!(expected, "{error:?}");
                let requests = outcome.observed.iter().filter(|it| **it == Observed::KeyNeeded);
                let keys = requests.count();
                if attack.role == Role::Server && (keys == 0 || *error == Error::WrongKey) {
                    // A peer that does not prove itself receives nothing that was made with the
                    // key.
                    let most = [&attack.spec.greeting(Role::Server), FAILURE_FRAME].concat();
                    prop_assert!(most.starts_with(&outcome.sent));
                }
            }
            SessionSpec::Mutual(_) if attack.role == Role::Server => {
                // No more than M1 and an alert: without M3 a peer learns nothing.
                prop_assert!(outcome.sent.len() <= M1_LEN + 1 + ALERT_LEN);
            }
            SessionSpec::Mutual(_) => {}
        }
    }

    #[test]
    fn tagged_stream_delivers_only_what_the_peer_sent(
        attack in tagged().prop_flat_map(|spec| attack_on(spec, true)),
        reads in chunk_sizes(),
    ) {
        let outcome = attack.run((reads, ChunkSizes::unlimited()), 0);
        let received = Conversation::payload(&outcome.observed);
        let sent = &attack.payload;
        prop_assert!(sent.starts_with(&received), "{:?} of {:?}", received, sent);
    }
}
