//! How bytes are cut must not matter (docs/ARCHITECTURE.md, "One parser").
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{
    Config, Digest, Error, Framing, Instant, Key, Mac, Nonce, Refuse, Role, Scheme, Session,
    Truncated,
};
use countersign_tests::{
    App, End, Pace, Pools, Seen, bytes, config, converse, frame, listen, messages, pace, tampered,
};
use proptest::prelude::*;
use proptest::sample::select;

const SECRET: &[u8] = b"the key of both ends";

fn nonce() -> Nonce {
    Nonce::from_bytes([0x6e; Nonce::LEN])
}

fn end(config: &Config, role: Role, (receive, send): (usize, usize), app: App) -> End {
    let buffers = Pools::default().buffers(receive, send);
    let session = match role {
        Role::Client => Session::client(config, nonce(), buffers, Instant::EPOCH),
        Role::Server => Session::server(config, nonce(), buffers, Instant::EPOCH),
    };
    End::new(session.unwrap(), app)
}

fn digest() -> impl Strategy<Value = Digest> {
    select(Digest::ALL)
}

fn a_config() -> impl Strategy<Value = Config> {
    let scheme =
        prop_oneof![Just(Scheme::None), digest().prop_map(|digest| Scheme::Challenge { digest }),];
    let framing = select(&[Framing::Raw, Framing::U32][..]);
    (scheme, framing).prop_map(|(scheme, framing)| Config::new(scheme).with_framing(framing))
}

fn sizes() -> impl Strategy<Value = (usize, usize)> {
    let size = || prop_oneof![Just(64_usize), 64..300_usize];
    (size(), size())
}

/// The key that an end has for a scheme: the right one, mostly.
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
    fn key(self, scheme: &Scheme) -> Result<Key, Refuse> {
        let &Scheme::Challenge { digest } = scheme else { return Err(Refuse::Unknown) };
        match self {
            Self::Right => Ok(Key::challenge(digest, SECRET).unwrap()),
            Self::Wrong => Ok(Key::challenge(digest, b"another key").unwrap()),
            Self::None => Err(Refuse::Unknown),
        }
    }
}

/// A client that says `messages` to a server that echoes.
#[derive(Clone, Debug)]
struct Conversation {
    config: Config,
    /// The longest frame that the server takes, in bytes.
    max_frame: u64,
    client: (Has, (usize, usize)),
    server: (Has, (usize, usize)),
    messages: Vec<Vec<u8>>,
    part: usize,
}

fn conversation() -> impl Strategy<Value = Conversation> {
    let max_frame = prop_oneof![4 => Just(1_u64 << 20), 1 => 0..700_u64];
    ((a_config(), max_frame), (has(), sizes()), (has(), sizes()), messages(), 1..400_usize)
        .prop_map(|((config, max_frame), client, server, messages, part)| Conversation {
            config,
            max_frame,
            client,
            server,
            messages,
            part,
        })
}

/// What both ends saw and what went over the wires.
#[derive(Debug, PartialEq)]
struct Record {
    client: Vec<Seen>,
    server: Vec<Seen>,
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Conversation {
    fn hold(&self, [mut cr, mut cw, mut sr, mut sw]: [Pace; 4], hold: usize) -> Record {
        let scheme = self.config.scheme();
        let speaker = App::say(self.client.0.key(scheme), self.messages.clone(), self.part);
        let echo = App::echo(self.server.0.key(scheme), hold);
        let mut client = end(&self.config, Role::Client, self.client.1, speaker);
        let strict = self.config.clone().with_max_frame(self.max_frame);
        let mut server = end(&strict, Role::Server, self.server.1, echo);
        let (up, down) = converse((&mut client, &mut cr, &mut cw), (&mut server, &mut sr, &mut sw));
        let record =
            Record { client: client.seen().to_vec(), server: server.seen().to_vec(), up, down };
        for seen in [&record.client, &record.server] {
            assert!(matches!(seen.last(), Some(Seen::Closed | Seen::Failed(_))), "{record:?}");
        }
        record
    }

    /// All parts that `seen` has, joined.
    fn heard(seen: &[Seen]) -> Vec<u8> {
        seen.iter()
            .filter_map(|seen| match seen {
                Seen::Part { bytes, .. } => Some(&bytes[..]),
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
    #![proptest_config(config(160))]

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
        let firsts = record.client.iter().filter(|s| matches!(s, Seen::Part { first: true, .. }));
        let expected = match conversation.config.framing() {
            Framing::Raw => usize::from(!said.is_empty()),
            _ => conversation.messages.len(),
        };
        prop_assert_eq!(firsts.count(), expected);
    }

    #[test]
    fn ends_of_different_keys_never_talk(
        mut conversation in conversation(),
        digest in digest(),
        paces in [pace(), pace(), pace(), pace()],
    ) {
        let framing = conversation.config.framing();
        conversation.config = Config::new(Scheme::Challenge { digest }).with_framing(framing);
        (conversation.client.0, conversation.server.0) = (Has::Right, Has::Wrong);
        let record = conversation.hold(paces, 0);
        prop_assert_eq!(record.server, vec![Seen::KeyNeeded, Seen::Failed(Error::WrongKey)]);
        prop_assert_eq!(record.down, vec![0x6e; 32], "only the challenge went out");
        prop_assert_eq!(Conversation::heard(&record.client), b"");
    }
}

/// One end that echoes, and the bytes that it gets.
#[derive(Clone, Debug)]
struct Attack {
    config: Config,
    role: Role,
    sizes: (usize, usize),
    stream: Vec<u8>,
}

impl Attack {
    fn strike(&self, (mut reads, mut writes): (Pace, Pace), hold: usize) -> (Vec<Seen>, Vec<u8>) {
        let app = App::echo(Has::Right.key(self.config.scheme()), hold);
        let mut end = end(&self.config, self.role, self.sizes, app);
        let sent = listen(&mut end, &self.stream, &mut reads, &mut writes);
        (end.seen().to_vec(), sent)
    }

    /// What the handshake of the other end would be.
    fn handshake(config: &Config, role: Role) -> Vec<u8> {
        match (config.scheme(), role) {
            (Scheme::Challenge { digest }, Role::Server) => {
                Mac::new(*digest, SECRET).tag(&[0x6e; 32]).bytes().to_vec()
            }
            (Scheme::Challenge { .. }, Role::Client) => vec![0x42; 32],
            _ => Vec::new(),
        }
    }
}

/// Anything at all, or what an honest peer sends, changed a little.
fn attack() -> impl Strategy<Value = Attack> {
    let role = select(&[Role::Client, Role::Server][..]);
    (a_config(), role, sizes(), messages()).prop_flat_map(|(config, role, sizes, messages)| {
        let config = config.with_max_frame(500);
        let mut honest = Attack::handshake(&config, role);
        let behind = honest.clone();
        honest.extend(messages.iter().flat_map(|message| frame(message)));
        let stream = prop_oneof![
            1 => bytes(300),
            1 => bytes(300).prop_map(move |bytes| [&behind[..], &bytes].concat()),
            4 => tampered(honest),
        ];
        stream.prop_map(move |stream| Attack { config: config.clone(), role, sizes, stream })
    })
}

proptest! {
    #![proptest_config(config(250))]

    #[test]
    fn hostile_bytes_come_to_the_same_end_however_they_are_cut(
        attack in attack(),
        reads in pace(),
        writes in pace(),
        hold in 0..4_usize,
    ) {
        let expected = attack.strike((Pace::whole(), Pace::whole()), 0);
        prop_assert!(matches!(expected.0.last(), Some(Seen::Closed | Seen::Failed(_))));
        let (seen, sent) = attack.strike((reads, writes), hold);
        prop_assert_eq!(&seen, &expected.0);
        if seen.iter().any(|seen| matches!(seen, Seen::Established { .. })) {
            prop_assert_eq!(sent, expected.1);
        } else {
            // A handshake that fails drops what is left of its challenge.
            prop_assert!(expected.1.starts_with(&sent));
        }
    }

    #[test]
    fn nobody_is_authenticated_without_the_right_answer(attack in attack(), reads in pace()) {
        let (seen, sent) = attack.strike((reads, Pace::whole()), 0);
        let answer = Attack::handshake(&attack.config, attack.role);
        let proves = matches!(attack.config.scheme(), Scheme::Challenge { .. })
            && attack.role == Role::Server;
        let right = attack.stream.starts_with(&answer);
        let authenticated = seen.contains(&Seen::Established { authenticated: true });
        prop_assert_eq!(authenticated, proves && right);
        if proves && !right {
            let error = match attack.stream.len() < answer.len() {
                true => Error::Truncated(Truncated::Handshake),
                false => Error::WrongKey,
            };
            prop_assert_eq!(seen.last(), Some(&Seen::Failed(error)));
            prop_assert_eq!(sent, vec![0x6e; 32]);
        }
    }
}
