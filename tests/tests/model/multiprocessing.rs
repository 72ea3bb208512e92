//! Model check of the scheme `multiprocessing`, which promises less: a holder of the key outside
//! our process answered our challenge.
//!
//! The endpoints are those of adapters. Several belong to one process and share its outstanding
//! challenges. The attacker delivers any frame that any of them sent, a challenge and a response of
//! its own, and either verdict, to any of them in any order. The effect of a frame depends on the
//! endpoint's state, on the frame, and on the outstanding challenges of its process. Each such case
//! is run once with real sessions, in a world that is replayed from its start.

use std::collections::{BTreeSet, HashMap, VecDeque};

use countersign::{Digest, Framing, Instant, Role};
use countersign_host::{
    BoxedProtocol, LeaseHolder, OutstandingChallenges, PoolOptions, Pools, ProtocolFactory,
    SessionFactory,
};
use countersign_tests::{HonestPeer, Policy, SECRET, SessionSpec, drain, frame, receive};

const NOW: Instant = Instant::EPOCH;

/// The endpoints of a world: the role of each and its process.
type World = [(Role, usize)];

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Frame {
    /// Of the endpoint with this index.
    Challenge(usize),
    Response(usize),
    /// Of the attacker.
    ForgedChallenge,
    GuessedResponse,
    Welcome,
    Failure,
}

/// State of an endpoint, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    stage: Stage,
    /// The attacker knows its challenge.
    challenged: bool,
    /// The challenge that it answered.
    answered: Option<Frame>,
    /// The response that it accepted.
    accepted: Option<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// How many expected frames it has received.
    Waiting(u8),
    Established,
    Failed,
}

impl Default for Stage {
    fn default() -> Self {
        Self::Waiting(0)
    }
}

impl State {
    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    fn is_failed(&self) -> bool {
        self.stage == Stage::Failed
    }
}

/// Real sessions, and what they sent.
struct Run {
    sessions: Vec<BoxedProtocol>,
    sent: Vec<[Vec<u8>; 2]>,
    spec: SessionSpec,
}

impl Run {
    fn new(spec: SessionSpec, world: &World, guarded: bool) -> Self {
        let pools = Pools::new(&PoolOptions::default());
        let processes: Vec<_> = world.iter().map(|_| OutstandingChallenges::new()).collect();
        let session = |(at, (role, process)): (usize, &(Role, usize))| {
            let config = spec.config(*role, HonestPeer::HEARTBEAT);
            let process = if guarded { *process } else { at };
            let sessions = SessionFactory::new(config, pools.clone());
            let sessions = sessions.with_outstanding(processes[process].clone());
            match role {
                Role::Client => sessions.client(&LeaseHolder::default(), NOW),
                Role::Server => sessions.server(&LeaseHolder::default(), NOW),
            }
            .unwrap()
        };
        let sessions = world.iter().enumerate().map(session).collect();
        Self { sessions, sent: vec![Default::default(); world.len()], spec }
    }

    /// Delivers `what` to an endpoint whose state is `state_before`. Returns its state afterwards.
    fn deliver(&mut self, to: usize, what: Option<Frame>, state_before: State) -> State {
        let bytes = what.map_or_else(Vec::new, |what| self.bytes(what));
        let session = &mut *self.sessions[to];
        let keys = self.spec.keys(SECRET);
        let mut sent = Vec::new();
        // The last event follows the transmission of the last frame.
        for bytes in [&bytes[..], b""] {
            receive(session, &keys, bytes, NOW);
            sent.extend(drain(session, NOW));
        }
        let mut then = state_before;
        then.stage = match (session.poll_event(NOW), session.peer(), state_before.stage) {
            (Ok(_), Some(_), _) => Stage::Established,
            (Ok(_), None, Stage::Waiting(n)) => Stage::Waiting(n + u8::from(what.is_some())),
            _ => Stage::Failed,
        };
        while let Some((header, _)) = sent.split_first_chunk() {
            let rest = sent.split_off(4 + u32::from_be_bytes(*header) as usize);
            let frame = std::mem::replace(&mut sent, rest);
            if frame[4..].starts_with(b"#CHALLENGE#") {
                self.sent[to][0] = frame;
                then.challenged = true;
            } else if frame[4] != b'#' || frame.len() != 13 {
                self.sent[to][1] = frame;
                then.answered = what;
            }
        }
        if let (Some(Frame::Response(_) | Frame::GuessedResponse), false) = (what, then.is_failed())
        {
            then.accepted = what;
        }
        then
    }

    fn bytes(&self, what: Frame) -> Vec<u8> {
        match what {
            Frame::Challenge(of) => self.sent[of][0].clone(),
            Frame::Response(of) => self.sent[of][1].clone(),
            Frame::ForgedChallenge => frame(&[&b"#CHALLENGE#{sha256}"[..], &[b'z'; 40]].concat()),
            Frame::GuessedResponse => frame(&[&b"{sha256}"[..], &[b'z'; 32]].concat()),
            Frame::Welcome => frame(b"#WELCOME#"),
            Frame::Failure => frame(b"#FAILURE#"),
        }
    }
}

/// What the effect of a delivery depends on: the endpoint, its state, the frame, what that frame
/// answers, and which endpoints have a challenge outstanding.
type Case = (usize, State, Frame, Option<Frame>, Vec<bool>);

struct Found {
    states: usize,
    /// How many cases were run with real sessions.
    cases: usize,
    /// Established endpoints, and whose response each accepted.
    partners: BTreeSet<(usize, usize)>,
    /// Established endpoints whose challenge was not answered by another process.
    deceived: BTreeSet<usize>,
    /// Clients and servers that are established with each other.
    pairs: BTreeSet<(usize, usize)>,
}

/// Explores every state of a world.
fn explore(policy: Policy, world: &World, guarded: bool) -> Found {
    let spec = SessionSpec::Multiprocessing(policy, Framing::Multiprocessing);
    let mut start = vec![State::default(); world.len()];
    let mut run = Run::new(spec, world, guarded);
    (0..world.len()).for_each(|at| start[at] = run.deliver(at, None, start[at]));
    let mut cases: HashMap<Case, State> = HashMap::new();
    let mut paths = HashMap::from([(start.clone(), None)]);
    let mut queue = VecDeque::from([start]);
    let (mut partners, mut deceived, mut pairs) =
        <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
    while let Some(from) = queue.pop_front() {
        let partners_here = established_with(&from);
        for (at, partner) in &partners_here {
            partners.extend(partner.map(|who| (*at, who)));
            if partner.is_none_or(|who| world[who].1 == world[*at].1) {
                deceived.insert(*at);
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
            let outstanding = from.iter().map(State::waits).collect();
            let case = (to, from[to], what, answers, outstanding);
            let then = *cases.entry(case).or_insert_with(|| {
                let (mut run, mut at) = replay(spec, world, guarded, &paths, &from);
                assert_eq!(at, from, "a replay is not deterministic");
                at[to] = run.deliver(to, Some(what), at[to]);
                at[to]
            });
            let mut next = from.clone();
            next[to] = then;
            if !paths.contains_key(&next) {
                paths.insert(next.clone(), Some((from.clone(), to, what)));
                queue.push_back(next);
            }
        }
    }
    Found { states: paths.len(), cases: cases.len(), partners, deceived, pairs }
}

/// Returns the established endpoints, and who answered the challenge of each.
fn established_with(state: &[State]) -> BTreeSet<(usize, Option<usize>)> {
    let established = |(_, endpoint): &(_, &State)| endpoint.stage == Stage::Established;
    let partner = |(at, endpoint): (usize, &State)| match endpoint.accepted {
        Some(Frame::Response(of)) if state[of].answered == Some(Frame::Challenge(at)) => {
            (at, Some(of))
        }
        _ => (at, None),
    };
    state.iter().enumerate().filter(established).map(partner).collect()
}

/// Returns every possible delivery.
fn deliveries(state: &[State]) -> Vec<(usize, Frame)> {
    let mut frames =
        vec![Frame::ForgedChallenge, Frame::GuessedResponse, Frame::Welcome, Frame::Failure];
    for (of, endpoint) in state.iter().enumerate() {
        frames.extend(endpoint.challenged.then_some(Frame::Challenge(of)));
        frames.extend(endpoint.answered.map(|_| Frame::Response(of)));
    }
    let waiting = (0..state.len()).filter(|at| state[*at].waits());
    waiting
        .flat_map(|at| frames.iter().map(move |frame| (at, *frame)).collect::<Vec<_>>())
        .collect()
}

/// The predecessor of each state on the first path to it, and the delivery.
type Paths = HashMap<Vec<State>, Option<(Vec<State>, usize, Frame)>>;

/// Returns real sessions in the state `state`.
fn replay(
    spec: SessionSpec,
    world: &World,
    guarded: bool,
    paths: &Paths,
    state: &[State],
) -> (Run, Vec<State>) {
    let mut path = Vec::new();
    let mut at = state;
    while let Some((from, to, what)) = &paths[at] {
        path.push((*to, *what));
        at = from;
    }
    let mut run = Run::new(spec, world, guarded);
    let mut now = vec![State::default(); world.len()];
    (0..world.len()).for_each(|at| now[at] = run.deliver(at, None, now[at]));
    for (to, what) in path.into_iter().rev() {
        now[to] = run.deliver(to, Some(what), now[to]);
    }
    (run, now)
}

const CLIENT: Role = Role::Client;
const SERVER: Role = Role::Server;

/// Two clients and a server of one process.
const ONE_PROCESS: &World = &[(CLIENT, 0), (CLIENT, 0), (SERVER, 0)];

/// Endpoints of that process and of another: the world, whose response each endpoint accepts, and
/// which clients and servers are established with each other. An endpoint of the other process
/// answers challenges in either role, which is the limit of the scheme. A server answers only after
/// its own challenge was answered.
type TwoProcesses = (&'static World, &'static [(usize, usize)], &'static [(usize, usize)]);

const TWO_PROCESSES: [TwoProcesses; 3] = [
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

/// Digests of the attacker's challenge and response.
const POLICIES: [Policy; 2] =
    [Policy::Strict(Digest::Sha256), Policy::Compatible(Digest::Sha256, Digest::Md5)];

/// Explores a world and prints its size.
fn explore_and_print(policy: Policy, world: &World, guarded: bool) -> Found {
    let found = explore(policy, world, guarded);
    println!("{policy:?}, {world:?}: {} states, by {} deliveries", found.states, found.cases);
    found
}

#[test]
fn endpoints_of_one_process_never_authenticate_each_other() {
    for policy in POLICIES {
        let found = explore_and_print(policy, ONE_PROCESS, true);
        assert!(found.partners.is_empty() && found.deceived.is_empty());
    }
}

#[test]
fn established_endpoint_was_answered_by_another_process() {
    for policy in POLICIES {
        for (world, partners, pairs) in TWO_PROCESSES {
            let found = explore_and_print(policy, world, true);
            assert_eq!(found.deceived, BTreeSet::new(), "{world:?}");
            assert!(found.partners.iter().eq(partners), "{:?}", found.partners);
            assert!(found.pairs.iter().eq(pairs), "{:?}", found.pairs);
        }
    }
}

#[test]
fn endpoints_without_shared_challenges_answer_each_other() {
    let found = explore_and_print(POLICIES[0], ONE_PROCESS, false);
    assert_eq!(found.deceived, BTreeSet::from([0, 1, 2]));
}
