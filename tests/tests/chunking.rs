//! How bytes are cut must not matter (docs/ARCHITECTURE.md, "One parser").
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Alert, Config, Error, Framing, Key, KeyRejection, Role, Session, Truncated};
use countersign_tests::python::FAILURE_FRAME;
use countersign_tests::{
    ANOTHER_SECRET, App, Cover, End, Honest, Met, Pace, Pools, Region, Ring, SECRET, Seen, Speech,
    Stream, bytes, config, converse, listen, messages, name, other, pace, role, says, speech,
    tampered,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Length of M1 when one suite is offered, in bytes; each further suite is one more.
const M1_LEN: usize = 45;
/// Length of an alert in bytes.
const ALERT_LEN: usize = 6;

fn end_config(speech: Speech, role: Role) -> Config {
    speech.config(role, Honest::HEARTBEAT)
}

/// `extra` bytes more than each buffer needs.
fn session(
    speech: Speech,
    role: Role,
    config: &Config,
    (receive, send): (usize, usize),
) -> Session<Region> {
    let sizes = (config.receive_len() + receive, Config::MIN_BUFFER + send);
    speech.end(role, config, &Pools::default(), sizes)
}

fn sizes() -> impl Strategy<Value = (usize, usize)> {
    let size = || prop_oneof![Just(0_usize), 0..236_usize];
    (size(), size())
}

/// The key that an end has: the right one, mostly.
#[derive(Clone, Copy, Debug)]
enum Has {
    Right,
    Wrong,
    None,
}

fn has() -> impl Strategy<Value = Has> {
    prop_oneof![6 => Just(Has::Right), 1 => Just(Has::Wrong), 1 => Just(Has::None)]
}

impl Has {
    fn ring(self, speech: Speech) -> Ring {
        match self {
            Self::Right => speech.ring(SECRET),
            Self::Wrong => speech.ring(ANOTHER_SECRET),
            Self::None => Err(KeyRejection::Unknown),
        }
    }
}

/// A client that says `messages` to a server that echoes.
#[derive(Clone, Debug)]
struct Conversation {
    speech: Speech,
    /// The longest frame that the server takes, in bytes.
    max_frame: u64,
    client: (Has, (usize, usize)),
    server: (Has, (usize, usize)),
    messages: Vec<Vec<u8>>,
    chunk: usize,
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let max_frame = prop_oneof![4 => Just(1_u64 << 20), 1 => 0..700_u64];
    ((speech(), max_frame), (has(), sizes()), (has(), sizes()), messages(), 1..400_usize).prop_map(
        |((speech, max_frame), client, server, messages, chunk)| Conversation {
            speech,
            max_frame,
            client,
            server,
            messages,
            chunk,
        },
    )
}

/// What both ends saw and what went over the wires.
#[derive(Debug, PartialEq)]
struct Record {
    client: Vec<Seen>,
    server: Vec<Seen>,
    /// Whom each met.
    met: [Option<Met>; 2],
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Conversation {
    fn hold(&self, [mut cr, mut cw, mut sr, mut sw]: [Pace; 4], hold: usize) -> Record {
        let speech = self.speech;
        let end =
            |role, config: &Config, sizes, app| End::new(session(speech, role, config, sizes), app);
        let speaker = App::say(self.client.0.ring(speech), self.messages.clone(), self.chunk);
        let echo = App::echo(self.server.0.ring(speech), hold);
        let config = end_config(speech, Role::Client);
        let mut client = end(Role::Client, &config, self.client.1, speaker);
        let strict = end_config(speech, Role::Server).with_max_frame(self.max_frame);
        let mut server = end(Role::Server, &strict, self.server.1, echo);
        let (up, down) = converse((&mut client, &mut cr, &mut cw), (&mut server, &mut sr, &mut sw));
        let record = Record {
            client: client.seen().to_vec(),
            server: server.seen().to_vec(),
            met: [client.met().cloned(), server.met().cloned()],
            up,
            down,
        };
        for seen in [&record.client, &record.server] {
            assert!(matches!(seen.last(), Some(Seen::Closed | Seen::Failed(_))), "{record:?}");
        }
        record
    }

    /// All parts that `seen` has, joined.
    fn heard(seen: &[Seen]) -> Vec<u8> {
        seen.iter()
            .filter_map(|seen| match seen {
                Seen::Chunk { bytes, .. } => Some(&bytes[..]),
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
    fn a_conversation_is_the_same_however_its_bytes_are_cut(
        conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
        hold in 0..4_usize,
    ) {
        let expected = conversation.hold(whole(), 0);
        let record = conversation.hold(paces, hold);
        prop_assert_eq!(&record, &expected);
    }

    #[test]
    fn ends_of_one_key_hear_all_that_was_said_and_close(
        mut conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        conversation.max_frame = 700;
        (conversation.client.0, conversation.server.0) = (Has::Right, Has::Right);
        let record = conversation.hold(paces, 0);
        let said = conversation.messages.concat();
        for seen in [&record.client, &record.server] {
            prop_assert_eq!(&Conversation::heard(seen), &said);
            prop_assert_eq!(seen.last(), Some(&Seen::Closed));
        }
        let firsts = record.client.iter().filter(|s| matches!(s, Seen::Chunk { first: true, .. }));
        let expected = match conversation.speech.framing() {
            Framing::Raw => usize::from(!said.is_empty()),
            _ => conversation.messages.len(),
        };
        prop_assert_eq!(firsts.count(), expected);
    }

    #[test]
    fn both_ends_agree_on_every_field_of_what_they_know_of_each_other(
        mut conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        (conversation.client.0, conversation.server.0) = (Has::Right, Has::Right);
        let speech = conversation.speech;
        let [Some(server), Some(client)] = conversation.hold(paces, 0).met else {
            panic!("they never met");
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
    fn ends_of_different_keys_never_talk(
        mut conversation in conversation(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        if !conversation.speech.proves_to(Role::Server) {
            conversation.speech = Speech::Mutual(Cover::Tags);
        }
        let speech = conversation.speech;
        (conversation.client.0, conversation.server.0) = (Has::Right, Has::Wrong);
        let record = conversation.hold(paces, 0);
        prop_assert_eq!(&record.server, &vec![Seen::KeyNeeded, Seen::Failed(Error::WrongKey)]);
        prop_assert_eq!(Conversation::heard(&record.client), b"");
        let last_word: &[u8] = match speech {
            Speech::Mutual(_) => &[0, 0, 0, 2, 0x7f, 1],
            Speech::Multiprocessing(..) => FAILURE_FRAME,
            Speech::None(_) | Speech::Challenge(..) => b"",
        };
        let down = [&speech.greeting(Role::Server), last_word].concat();
        prop_assert_eq!(&record.down, &down, "nothing went out but its greeting and its last word");
        if !last_word.is_empty() {
            let refused = Seen::Failed(Error::Alert(Alert::Refused));
            prop_assert_eq!(&record.client, &vec![Seen::KeyNeeded, refused]);
        }
    }
}

/// One end that echoes, and the bytes that it gets.
#[derive(Clone, Debug)]
struct Attack {
    speech: Speech,
    role: Role,
    sizes: (usize, usize),
    /// What an honest peer would have sent until the handshake was over.
    handshake: Vec<u8>,
    /// What it would have said.
    said: Vec<u8>,
    stream: Vec<u8>,
}

/// What the end saw, and what it sent.
struct Struck {
    seen: Vec<Seen>,
    sent: Vec<u8>,
}

impl Attack {
    fn session(speech: Speech, role: Role, sizes: (usize, usize)) -> Session<Region> {
        session(speech, role, &end_config(speech, role).with_max_frame(500), sizes)
    }

    fn strike(&self, (mut reads, mut writes): (Pace, Pace), hold: usize) -> Struck {
        let app = App::echo(Has::Right.ring(self.speech), hold);
        let mut end = End::new(Self::session(self.speech, self.role, self.sizes), app);
        let sent = listen(&mut end, &self.stream, &mut reads, &mut writes);
        Struck { seen: end.seen().to_vec(), sent }
    }

    /// What an honest peer makes of what the end `sent`, how that was cut left aside.
    fn understood(&self, sent: &[u8]) -> Vec<u8> {
        let mut peer = Honest::new(self.speech, other(self.role));
        peer.hear(sent).into_iter().flat_map(|(_, chunk)| chunk).collect()
    }

    fn is_authentic(&self) -> bool {
        self.speech.proves(self.role, &self.handshake, &self.stream)
    }
}

impl Struck {
    fn established(&self) -> Option<&Met> {
        self.seen.iter().find_map(|seen| match seen {
            Seen::Established(met) => Some(&**met),
            _ => None,
        })
    }
}

/// Anything at all, or what an honest peer sends, changed a little.
fn attack() -> impl Strategy<Value = Attack> {
    (speech(), any::<bool>()).prop_flat_map(|(speech, met)| attack_on(speech, met))
}

/// If they have `met`, the handshake is left alone.
fn attack_on(speech: Speech, met: bool) -> impl Strategy<Value = Attack> {
    (role(), sizes(), says()).prop_flat_map(move |(role, sizes, says)| {
        let tested = Attack::session(speech, role, sizes);
        let Stream { bytes: honest, handshake, said } = Honest::stream(speech, tested, &says);
        let (handshake, behind) = honest.split_at(handshake);
        let (first, changed) = if met { (handshake, behind) } else { (&[][..], &honest[..]) };
        let remaining = prop_oneof![1 => bytes(300), 4 => tampered(changed.to_vec())];
        let (handshake, first) = (handshake.to_vec(), first.to_vec());
        remaining.prop_map(move |remaining| Attack {
            speech,
            role,
            sizes,
            handshake: handshake.clone(),
            said: said.clone(),
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
    fn hostile_bytes_come_to_the_same_end_however_they_are_cut(
        attack in attack(),
        reads in pace(),
        writes in pace(),
        hold in 0..4_usize,
    ) {
        let mut expected = attack.strike((Pace::whole(), Pace::whole()), 0);
        let mut struck = attack.strike((reads, writes), hold);
        for seen in [&expected.seen, &struck.seen] {
            prop_assert!(matches!(seen.last(), Some(Seen::Closed | Seen::Failed(_))));
        }
        if attack.speech.is_mutual() {
            // What comes behind the peer's last word is an error unless ours was out before.
            for seen in [&mut expected.seen, &mut struck.seen] {
                if let Some(at) = seen.iter().position(|seen| *seen == Seen::PeerFinished) {
                    seen.truncate(at + 1);
                }
            }
        }
        prop_assert_eq!(&struck.seen, &expected.seen);
        if struck.established().is_none() {
            // A handshake that fails drops what is left of its challenge.
            prop_assert!(expected.sent.starts_with(&struck.sent));
        } else if !attack.speech.is_mutual() {
            prop_assert_eq!(struck.sent, expected.sent);
        } else if !matches!(expected.seen.last(), Some(Seen::Failed(Error::PeerClosed(_)))) {
            // When a PONG was owed depends on when the PING came.
            prop_assert_eq!(attack.understood(&struck.sent), attack.understood(&expected.sent));
        }
    }

    #[test]
    fn nobody_is_authenticated_without_the_right_answer(attack in attack(), reads in pace()) {
        let struck = attack.strike((reads, Pace::whole()), 0);
        let (proves, right) = (attack.speech.proves_to(attack.role), attack.is_authentic());
        let authenticated = struck.established().is_some_and(|met| met.authenticated);
        prop_assert_eq!(authenticated, proves && right);
        if !proves || right {
            return Ok(());
        }
        prop_assert_eq!(struck.established(), None);
        let Some(Seen::Failed(error)) = struck.seen.last() else { panic!("it goes on") };
        match attack.speech {
            Speech::None(_) | Speech::Challenge(..) => {
                let expected = match attack.stream.len() < attack.handshake.len() {
                    true => Error::Truncated(Truncated::Handshake),
                    false => Error::WrongKey,
                };
                prop_assert_eq!(*error, expected);
                prop_assert_eq!(struck.sent, attack.speech.greeting(Role::Server));
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
                let keys = struck.seen.iter().filter(|seen| **seen == Seen::KeyNeeded).count();
                if attack.role == Role::Server && (keys == 0 || *error == Error::WrongKey) {
                    // Whoever does not prove itself gets nothing that was made with the key.
                    let most = [&attack.speech.greeting(Role::Server), FAILURE_FRAME].concat();
                    prop_assert!(most.starts_with(&struck.sent));
                }
            }
            Speech::Mutual(_) if attack.role == Role::Server => {
                // No more than M1 and an alert: whoever gets no M3 learns nothing.
                prop_assert!(struck.sent.len() <= M1_LEN + 1 + ALERT_LEN);
            }
            Speech::Mutual(_) => {}
        }
    }

    #[test]
    fn of_a_tagged_stream_nothing_is_delivered_but_what_was_said(
        attack in tagged().prop_flat_map(|speech| attack_on(speech, true)),
        reads in pace(),
    ) {
        let struck = attack.strike((reads, Pace::whole()), 0);
        let heard = Conversation::heard(&struck.seen);
        prop_assert!(attack.said.starts_with(&heard), "{:?} of {:?}", heard, attack.said);
    }
}
