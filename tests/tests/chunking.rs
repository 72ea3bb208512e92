//! The size of chunks must not matter (docs/ARCHITECTURE.md, "One parser").
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Alert, Config, Error, Framing, Key, KeyRejection, Role, Session, Truncated};
use countersign_tests::python::FAILURE_FRAME;
use countersign_tests::{
    ANOTHER_SECRET, Application, Cover, Endpoint, HonestPeer, Met, Observed, Pace, PeerStream,
    Pools, Region, Ring, SECRET, Speech, actions, bytes, config, drive_pair, drive_with, messages,
    name, other, pace, role, speech, tampered,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Length of an M1 that offers one suite, in bytes. Each further suite adds one.
const M1_LEN: usize = 45;
/// Length of an alert in bytes.
const ALERT_LEN: usize = 6;

fn end_config(speech: Speech, role: Role) -> Config {
    speech.config(role, HonestPeer::HEARTBEAT)
}

/// Makes a session with `extra` bytes in each buffer beyond what it needs.
fn session(
    speech: Speech,
    role: Role,
    config: &Config,
    (receive, send): (usize, usize),
) -> Session<Region> {
    let sizes = (config.receive_len() + receive, Config::MIN_BUFFER + send);
    speech.session(role, config, &Pools::default(), sizes)
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
    fn ring(self, speech: Speech) -> Ring {
        match self {
            Self::Right => speech.ring(SECRET),
            Self::Wrong => speech.ring(ANOTHER_SECRET),
            Self::None => Err(KeyRejection::Unknown),
        }
    }
}

/// A client that sends `messages` to a server that echoes them.
#[derive(Clone, Debug)]
struct Conversation {
    speech: Speech,
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
        (speech(), max_frame),
        (key_choice(), sizes()),
        (key_choice(), sizes()),
        messages(),
        1..400_usize,
    )
        .prop_map(|((speech, max_frame), client, server, messages, chunk)| Conversation {
            speech,
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
    /// What each knew about its peer.
    peers: [Option<Met>; 2],
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Conversation {
    fn run(&self, [mut cr, mut cw, mut sr, mut sw]: [Pace; 4], hold: usize) -> Record {
        let speech = self.speech;
        let end = |role, config: &Config, sizes, app| {
            Endpoint::new(session(speech, role, config, sizes), app)
        };
        let speaker =
            Application::sending(self.client.0.ring(speech), self.messages.clone(), self.chunk);
        let echo = Application::echo(self.server.0.ring(speech), hold);
        let config = end_config(speech, Role::Client);
        let mut client = end(Role::Client, &config, self.client.1, speaker);
        let strict = end_config(speech, Role::Server).with_max_frame(self.max_frame);
        let mut server = end(Role::Server, &strict, self.server.1, echo);
        let (up, down) =
            drive_pair((&mut client, &mut cr, &mut cw), (&mut server, &mut sr, &mut sw));
        let record = Record {
            client: client.observed().to_vec(),
            server: server.observed().to_vec(),
            peers: [client.met().cloned(), server.met().cloned()],
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

fn whole() -> [Pace; 4] {
    [Pace::whole(), Pace::whole(), Pace::whole(), Pace::whole()]
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn chunking_does_not_change_a_session(
        conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
        hold in 0..4_usize,
    ) {
        let expected = conversation.run(whole(), 0);
        let record = conversation.run(paces, hold);
        prop_assert_eq!(&record, &expected);
    }

    #[test]
    fn endpoints_with_one_key_exchange_all_messages_and_close(
        mut conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        conversation.max_frame = 700;
        (conversation.client.0, conversation.server.0) = (KeyChoice::Right, KeyChoice::Right);
        let record = conversation.run(paces, 0);
        let payload = conversation.messages.concat();
        for observed in [&record.client, &record.server] {
            prop_assert_eq!(&Conversation::payload(observed), &payload);
            prop_assert_eq!(observed.last(), Some(&Observed::Closed));
        }
        let is_first = |it: &&Observed| matches!(it, Observed::Chunk { first: true, .. });
        let firsts = record.client.iter().filter(is_first);
        let expected = match conversation.speech.framing() {
            Framing::Raw => usize::from(!payload.is_empty()),
            _ => conversation.messages.len(),
        };
        prop_assert_eq!(firsts.count(), expected);
    }

    #[test]
    fn endpoints_agree_on_every_field_about_each_other(
        mut conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        (conversation.client.0, conversation.server.0) = (KeyChoice::Right, KeyChoice::Right);
        let speech = conversation.speech;
        let [Some(server), Some(client)] = conversation.run(paces, 0).peers else {
            panic!("the handshake did not complete");
        };
        prop_assert_eq!(server.authenticated, speech.proves_to(Role::Client));
        prop_assert_eq!(client.authenticated, speech.proves_to(Role::Server));
        let known = |met: &Met| (met.key_id.clone(), met.fingerprint, met.session_id, met.exporter);
        prop_assert_eq!(known(&server), known(&client));
        if speech.is_mutual() {
            prop_assert_eq!(server.name.as_deref(), Some(name(Role::Server)));
            prop_assert_eq!(client.name.as_deref(), Some(name(Role::Client)));
            prop_assert_eq!(server.key_id.as_deref(), Some(countersign_tests::KID));
            prop_assert_eq!(server.fingerprint, Key::mutual(SECRET).unwrap().fingerprint());
            prop_assert!(server.session_id.is_some() && server.exporter.is_some());
        } else {
            prop_assert_eq!(known(&server), (None, None, None, None));
        }
    }

    #[test]
    fn endpoints_with_different_keys_exchange_no_message(
        mut conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        if !conversation.speech.proves_to(Role::Server) {
            conversation.speech = Speech::Mutual(Cover::Tags);
        }
        let speech = conversation.speech;
        (conversation.client.0, conversation.server.0) = (KeyChoice::Right, KeyChoice::Wrong);
        let record = conversation.run(paces, 0);
        let wrong_key = Observed::Failed(Error::WrongKey);
        prop_assert_eq!(&record.server, &vec![Observed::KeyNeeded, wrong_key]);
        prop_assert_eq!(Conversation::payload(&record.client), b"");
        let last_word: &[u8] = match speech {
            Speech::Mutual(_) => &[0, 0, 0, 2, 0x7f, 1],
            Speech::Multiprocessing(..) => FAILURE_FRAME,
            Speech::None(_) | Speech::Challenge(..) => b"",
        };
        let down = [&speech.greeting(Role::Server), last_word].concat();
        prop_assert_eq!(&record.down, &down, "more than the first message and the refusal");
        if !last_word.is_empty() {
            let refused = Observed::Failed(Error::Alert(Alert::Refused));
            prop_assert_eq!(&record.client, &vec![Observed::KeyNeeded, refused]);
        }
    }
}

/// One endpoint that echoes, and the bytes that it receives.
#[derive(Clone, Debug)]
struct Attack {
    speech: Speech,
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
    fn session(speech: Speech, role: Role, sizes: (usize, usize)) -> Session<Region> {
        session(speech, role, &end_config(speech, role).with_max_frame(500), sizes)
    }

    fn run(&self, (mut reads, mut writes): (Pace, Pace), hold: usize) -> Outcome {
        let app = Application::echo(KeyChoice::Right.ring(self.speech), hold);
        let mut end = Endpoint::new(Self::session(self.speech, self.role, self.sizes), app);
        let sent = drive_with(&mut end, &self.stream, &mut reads, &mut writes);
        Outcome { observed: end.observed().to_vec(), sent }
    }

    /// Returns what an honest peer receives from what the endpoint `sent`, regardless of chunking.
    fn understood(&self, sent: &[u8]) -> Vec<u8> {
        let mut peer = HonestPeer::new(self.speech, other(self.role));
        peer.receive(sent).into_iter().flat_map(|(_, chunk)| chunk).collect()
    }

    fn is_authentic(&self) -> bool {
        self.speech.proves(self.role, &self.handshake, &self.stream)
    }
}

impl Outcome {
    fn established(&self) -> Option<&Met> {
        self.observed.iter().find_map(|observed| match observed {
            Observed::Established(met) => Some(&**met),
            _ => None,
        })
    }
}

/// Arbitrary bytes, or the bytes of an honest peer with a few changes.
fn attack() -> impl Strategy<Value = Attack> {
    (speech(), any::<bool>())
        .prop_flat_map(|(speech, after_handshake)| attack_on(speech, after_handshake))
}

/// If `after_handshake`, the handshake is left unchanged.
fn attack_on(speech: Speech, after_handshake: bool) -> impl Strategy<Value = Attack> {
    (role(), sizes(), actions()).prop_flat_map(move |(role, sizes, actions)| {
        let tested = Attack::session(speech, role, sizes);
        let PeerStream { bytes: honest, handshake, payload } =
            HonestPeer::stream(speech, tested, &actions);
        let (handshake, behind) = honest.split_at(handshake);
        let (first, changed) =
            if after_handshake { (handshake, behind) } else { (&[][..], &honest[..]) };
        let remaining = prop_oneof![1 => bytes(300), 4 => tampered(changed.to_vec())];
        let (handshake, first) = (handshake.to_vec(), first.to_vec());
        remaining.prop_map(move |remaining| Attack {
            speech,
            role,
            sizes,
            handshake: handshake.clone(),
            payload: payload.clone(),
            stream: [&first[..], &remaining].concat(),
        })
    })
}

fn tagged() -> impl Strategy<Value = Speech> {
    select(&[Cover::Tags, Cover::Bound][..]).prop_map(Speech::Mutual)
}

proptest! {
    #![proptest_config(config(1500))]

    #[test]
    fn chunking_does_not_change_the_result_of_hostile_bytes(
        attack in attack(),
        reads in pace(),
        writes in pace(),
        hold in 0..4_usize,
    ) {
        let mut expected = attack.run((Pace::whole(), Pace::whole()), 0);
        let mut outcome = attack.run((reads, writes), hold);
        for observed in [&expected.observed, &outcome.observed] {
            prop_assert!(matches!(observed.last(), Some(Observed::Closed | Observed::Failed(_))));
        }
        if attack.speech.is_mutual() {
            // Bytes behind the peer's FIN are an error unless our own FIN has been sent.
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
        } else if !attack.speech.is_mutual() {
            prop_assert_eq!(outcome.sent, expected.sent);
        } else if !matches!(
            expected.observed.last(),
            Some(Observed::Failed(Error::PeerClosed(_)))
        ) {
            // When a PONG is sent depends on when the PING arrived.
            prop_assert_eq!(attack.understood(&outcome.sent), attack.understood(&expected.sent));
        }
    }

    #[test]
    fn no_peer_is_authenticated_without_the_right_proof(attack in attack(), reads in pace()) {
        let outcome = attack.run((reads, Pace::whole()), 0);
        let (proves, right) = (attack.speech.proves_to(attack.role), attack.is_authentic());
        let authenticated = outcome.established().is_some_and(|met| met.authenticated);
        prop_assert_eq!(authenticated, proves && right);
        if !proves || right {
            return Ok(());
        }
        prop_assert_eq!(outcome.established(), None);
        let Some(Observed::Failed(error)) = outcome.observed.last() else { panic!("no failure") };
        match attack.speech {
            Speech::None(_) | Speech::Challenge(..) => {
                let expected = match attack.stream.len() < attack.handshake.len() {
                    true => Error::Truncated(Truncated::Handshake),
                    false => Error::WrongKey,
                };
                prop_assert_eq!(*error, expected);
                prop_assert_eq!(outcome.sent, attack.speech.greeting(Role::Server));
            }
            Speech::Multiprocessing(..) => {
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
                    let most = [&attack.speech.greeting(Role::Server), FAILURE_FRAME].concat();
                    prop_assert!(most.starts_with(&outcome.sent));
                }
            }
            Speech::Mutual(_) if attack.role == Role::Server => {
                // No more than M1 and an alert: without M3 a peer learns nothing.
                prop_assert!(outcome.sent.len() <= M1_LEN + 1 + ALERT_LEN);
            }
            Speech::Mutual(_) => {}
        }
    }

    #[test]
    fn tagged_stream_delivers_only_what_the_peer_sent(
        attack in tagged().prop_flat_map(|speech| attack_on(speech, true)),
        reads in pace(),
    ) {
        let outcome = attack.run((reads, Pace::whole()), 0);
        let received = Conversation::payload(&outcome.observed);
        let sent = &attack.payload;
        prop_assert!(sent.starts_with(&received), "{:?} of {:?}", received, sent);
    }
}
