//! The same of the scheme `multiprocessing`, in which less is known: that somebody answered our
//! challenge who holds the key and is not of our process.
//!
//! Machines are those of adapters, several to a process, and share what the process has outstanding.
//! The attacker delivers any frame that any of them sent, a challenge and a response of his own, and
//! either verdict, to any of them in any order. What a machine does with a frame depends on what it
//! has heard, on what the frame is, and on which challenges of its process are outstanding; for each
//! of these it is done once by real machines, in a world that is played from its beginning.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::task::Waker;

use countersign::{Digest, Framing, Instant, Role};
use countersign_host::{
    BoxedProtocol, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory, SessionFactory,
};
use countersign_tests::{Honest, Policy, SECRET, Speech, drain, frame, hear};

const NOW: Instant = Instant::EPOCH;

/// The machines of a world: the role of each, and its process.
type World = [(Role, usize)];

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Frame {
    /// Of that machine.
    Challenge(usize),
    Response(usize),
    /// Of the attacker.
    Asked,
    Guessed,
    Welcome,
    Failure,
}

/// A machine, as far as anything follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Local {
    stage: Stage,
    /// Its challenge is known to the attacker.
    asked: bool,
    /// The challenge that it answered.
    answered: Option<Frame>,
    /// The response that it took for the answer to its own.
    taken: Option<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// So many frames were what it waited for.
    Waits(u8),
    Established,
    Failed,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Waits(0)
    }
}

impl Local {
    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waits(_))
    }

    fn is_failed(&self) -> bool {
        self.stage == Stage::Failed
    }
}

/// Real machines, and what they said.
struct Play {
    machines: Vec<BoxedProtocol>,
    said: Vec<[Vec<u8>; 2]>,
    speech: Speech,
}

impl Play {
    fn new(speech: Speech, world: &World, guarded: bool) -> Self {
        let pools = Pools::new(&PoolOptions::default());
        let processes: Vec<_> = world.iter().map(|_| OutstandingChallenges::new()).collect();
        let machine = |(at, (role, process)): (usize, &(Role, usize))| {
            let config = speech.config(*role, Honest::HEARTBEAT);
            let process = if guarded { *process } else { at };
            let sessions = SessionFactory::new(config, pools.clone());
            let sessions = sessions.with_outstanding(processes[process].clone());
            match role {
                Role::Client => sessions.client(Waker::noop(), NOW),
                Role::Server => sessions.server(Waker::noop(), NOW),
            }
            .unwrap()
        };
        let machines = world.iter().enumerate().map(machine).collect();
        Self { machines, said: vec![Default::default(); world.len()], speech }
    }

    /// Has a machine hear this; its state then, if it was `local` before.
    fn deliver(&mut self, to: usize, what: Option<Frame>, local: Local) -> Local {
        let bytes = what.map_or_else(Vec::new, |what| self.bytes(what));
        let machine = &mut *self.machines[to];
        let ring = self.speech.ring(SECRET);
        let mut said = Vec::new();
        // The last event waits for the last word to leave.
        for bytes in [&bytes[..], b""] {
            hear(machine, &ring, bytes, NOW);
            said.extend(drain(machine, NOW));
        }
        let mut then = local;
        then.stage = match (machine.poll_event(NOW), machine.peer(), local.stage) {
            (Ok(_), Some(_), _) => Stage::Established,
            (Ok(_), None, Stage::Waits(n)) => Stage::Waits(n + u8::from(what.is_some())),
            _ => Stage::Failed,
        };
        while let Some((header, _)) = said.split_first_chunk() {
            let rest = said.split_off(4 + u32::from_be_bytes(*header) as usize);
            let frame = std::mem::replace(&mut said, rest);
            if frame[4..].starts_with(b"#CHALLENGE#") {
                self.said[to][0] = frame;
                then.asked = true;
            } else if frame[4] != b'#' || frame.len() != 13 {
                self.said[to][1] = frame;
                then.answered = what;
            }
        }
        if let (Some(Frame::Response(_) | Frame::Guessed), false) = (what, then.is_failed()) {
            then.taken = what;
        }
        then
    }

    fn bytes(&self, what: Frame) -> Vec<u8> {
        match what {
            Frame::Challenge(of) => self.said[of][0].clone(),
            Frame::Response(of) => self.said[of][1].clone(),
            Frame::Asked => frame(&[&b"#CHALLENGE#{sha256}"[..], &[b'z'; 40]].concat()),
            Frame::Guessed => frame(&[&b"{sha256}"[..], &[b'z'; 32]].concat()),
            Frame::Welcome => frame(b"#WELCOME#"),
            Frame::Failure => frame(b"#FAILURE#"),
        }
    }
}

/// What decides on what a delivery does: to whom, what it has heard, what the frame is and answers,
/// and who of its process has a challenge outstanding.
type Case = (usize, Local, Frame, Option<Frame>, Vec<bool>);

struct Found {
    states: usize,
    /// Deliveries to real machines.
    cases: usize,
    /// Machines that are established, and whose response they took.
    partners: BTreeSet<(usize, usize)>,
    /// Machines that are established though nobody of another process answered what they asked.
    fooled: BTreeSet<usize>,
    /// Clients and servers that are established with each other.
    pairs: BTreeSet<(usize, usize)>,
}

/// All that can come about.
fn explore(policy: Policy, world: &World, guarded: bool) -> Found {
    let speech = Speech::Multiprocessing(policy, Framing::Multiprocessing);
    let mut start = vec![Local::default(); world.len()];
    let mut play = Play::new(speech, world, guarded);
    (0..world.len()).for_each(|at| start[at] = play.deliver(at, None, start[at]));
    let mut cases: HashMap<Case, Local> = HashMap::new();
    let mut came = HashMap::from([(start.clone(), None)]);
    let mut queue = VecDeque::from([start]);
    let (mut partners, mut fooled, mut pairs) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    while let Some(from) = queue.pop_front() {
        let partners_here = met(&from);
        for (at, partner) in &partners_here {
            partners.extend(partner.map(|who| (*at, who)));
            if partner.is_none_or(|who| world[who].1 == world[*at].1) {
                fooled.insert(*at);
            }
            let both = |who: &usize| partners_here.contains(&(*who, Some(*at)));
            let pair = partner.filter(both).map(|who| (*at, who));
            pairs
                .extend(pair.filter(|(at, who)| world[*at].0 == CLIENT && world[*who].0 == SERVER));
        }
        for (to, what) in deliveries(&from) {
            let answers = match what {
                Frame::Response(of) => from[of].answered,
                _ => None,
            };
            let outstanding = from.iter().map(Local::waits).collect();
            let case = (to, from[to], what, answers, outstanding);
            let then = *cases.entry(case).or_insert_with(|| {
                let (mut play, mut at) = replay(speech, world, guarded, &came, &from);
                assert_eq!(at, from, "what was done once is not done again");
                at[to] = play.deliver(to, Some(what), at[to]);
                at[to]
            });
            let mut next = from.clone();
            next[to] = then;
            if !came.contains_key(&next) {
                came.insert(next.clone(), Some((from.clone(), to, what)));
                queue.push_back(next);
            }
        }
    }
    Found { states: came.len(), cases: cases.len(), partners, fooled, pairs }
}

/// Machines that are established, and who answered the challenge of each, by what it took.
fn met(state: &[Local]) -> BTreeSet<(usize, Option<usize>)> {
    let established = |(_, local): &(_, &Local)| local.stage == Stage::Established;
    let partner = |(at, local): (usize, &Local)| match local.taken {
        Some(Frame::Response(of)) if state[of].answered == Some(Frame::Challenge(at)) => {
            (at, Some(of))
        }
        _ => (at, None),
    };
    state.iter().enumerate().filter(established).map(partner).collect()
}

/// All that can be delivered, and to whom.
fn deliveries(state: &[Local]) -> Vec<(usize, Frame)> {
    let mut frames = vec![Frame::Asked, Frame::Guessed, Frame::Welcome, Frame::Failure];
    for (of, local) in state.iter().enumerate() {
        frames.extend(local.asked.then_some(Frame::Challenge(of)));
        frames.extend(local.answered.map(|_| Frame::Response(of)));
    }
    let waiting = (0..state.len()).filter(|at| state[*at].waits());
    waiting
        .flat_map(|at| frames.iter().map(move |frame| (at, *frame)).collect::<Vec<_>>())
        .collect()
}

/// How each state came about first.
type Came = HashMap<Vec<Local>, Option<(Vec<Local>, usize, Frame)>>;

/// Real machines that have come to `state`.
fn replay(
    speech: Speech,
    world: &World,
    guarded: bool,
    came: &Came,
    state: &[Local],
) -> (Play, Vec<Local>) {
    let mut path = Vec::new();
    let mut at = state;
    while let Some((from, to, what)) = &came[at] {
        path.push((*to, *what));
        at = from;
    }
    let mut play = Play::new(speech, world, guarded);
    let mut now = vec![Local::default(); world.len()];
    (0..world.len()).for_each(|at| now[at] = play.deliver(at, None, now[at]));
    for (to, what) in path.into_iter().rev() {
        now[to] = play.deliver(to, Some(what), now[to]);
    }
    (play, now)
}

const CLIENT: Role = Role::Client;
const SERVER: Role = Role::Server;

/// Two clients and a server of one process.
const ONE: &World = &[(CLIENT, 0), (CLIENT, 0), (SERVER, 0)];

/// That process and ends of another: the world, who takes whose response, and which client and server
/// are established with each other. An end of another process answers whatever its role is: that is
/// the limit. A server does when it has been answered.
type Beside = (&'static World, &'static [(usize, usize)], &'static [(usize, usize)]);

const BESIDE: [Beside; 3] = [
    (
        &[(CLIENT, 0), (CLIENT, 0), (SERVER, 0), (CLIENT, 1)],
        &[(0, 3), (1, 3), (2, 3), (3, 0), (3, 1), (3, 2)],
        &[(3, 2)],
    ),
    (
        &[(CLIENT, 0), (CLIENT, 0), (SERVER, 0), (SERVER, 1)],
        &[(0, 3), (1, 3), (2, 3), (3, 0), (3, 1)],
        &[(0, 3), (1, 3)],
    ),
    (
        &[(CLIENT, 0), (SERVER, 0), (CLIENT, 1), (SERVER, 1)],
        &[(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (2, 1), (3, 0), (3, 1)],
        &[(0, 3), (2, 1)],
    ),
];

/// Digests that the attacker's challenge and response are of.
const POLICIES: [Policy; 2] =
    [Policy::Strict(Digest::Sha256), Policy::Compatible(Digest::Sha256, Digest::Md5)];

/// What can come about, all of it.
fn explored(policy: Policy, world: &World, guarded: bool) -> Found {
    let found = explore(policy, world, guarded);
    println!("{policy:?}, {world:?}: {} states, by {} deliveries", found.states, found.cases);
    found
}

#[test]
fn ends_of_one_process_are_never_established_with_each_other() {
    for policy in POLICIES {
        let found = explored(policy, ONE, true);
        assert!(found.partners.is_empty() && found.fooled.is_empty());
    }
}

#[test]
fn whoever_is_established_was_answered_by_another_process() {
    for policy in POLICIES {
        for (world, partners, pairs) in BESIDE {
            let found = explored(policy, world, true);
            assert_eq!(found.fooled, BTreeSet::new(), "{world:?}");
            assert!(found.partners.iter().eq(partners), "{:?}", found.partners);
            assert!(found.pairs.iter().eq(pairs), "{:?}", found.pairs);
        }
    }
}

#[test]
fn ends_that_do_not_know_what_their_process_has_asked_answer_each_other() {
    let found = explored(POLICIES[0], ONE, false);
    assert_eq!(found.fooled, BTreeSet::from([0, 1, 2]));
}
