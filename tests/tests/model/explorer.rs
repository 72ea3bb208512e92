//! Finds every state that an attacker can cause who keeps every record that any endpoint of a world
//! has sent and delivers any of them to any endpoint, in any order, repeatedly or not at all.
//!
//! Endpoints are deterministic and receive only what the attacker delivers. So the state of an
//! endpoint is the sequence of records delivered to it, and the state of a world is the states of
//! its endpoints. The order between endpoints does not matter, because the attacker keeps all that
//! it has. The states of an endpoint are found by running it from its start, once for each state
//! and record; those of the world by combining them. Failed sessions that have sent and know the
//! same are one state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::forge;
use crate::properties::{self, Violation};
use crate::world::{Endpoint, PeerFacts, Report, World};

/// No world has more endpoints.
const MAX_ENDPOINTS: usize = 6;

/// State of a world: for each endpoint, the index of its state.
type WorldState = [u16; MAX_ENDPOINTS];

/// The driver of one core.
pub(crate) type Run = fn(&Endpoint, &[&[u8]]) -> Report;

/// What was found in a world.
pub(crate) struct Exploration {
    /// States of the world.
    pub(crate) states: usize,
    /// Whether these are all of them.
    pub(crate) exhausted: bool,
    /// States of its endpoints.
    pub(crate) endpoint_states: usize,
    /// How often an endpoint was run from its start.
    pub(crate) runs: usize,
    /// Clients and servers that received all of each other's messages.
    pub(crate) completed: BTreeSet<(usize, usize)>,
    /// Each violation with the deliveries that led to it first.
    pub(crate) violations: BTreeMap<Violation, String>,
}

/// Set of record indices.
#[derive(Clone, Copy, Default)]
struct RecordSet([u64; 16]);

impl RecordSet {
    fn insert(&mut self, record: usize) {
        self.0[record / 64] |= 1 << (record % 64);
    }

    fn extend(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(to, from)| *to |= from);
    }

    fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    fn difference(&self, other: &Self) -> Vec<usize> {
        let words = self.0.iter().zip(other.0).enumerate();
        let mut records = Vec::new();
        for (word, bits) in words.map(|(word, (a, b))| (word, a & !b)).filter(|(_, b)| *b != 0) {
            records.extend((0..64).filter(|bit| bits & (1 << bit) != 0).map(|bit| 64 * word + bit));
        }
        records
    }
}

/// State of one endpoint.
pub(crate) struct EndpointState {
    pub(crate) report: Report,
    /// Client: the M2 that it sent. Server: the M2 that it answered with M3.
    pub(crate) m2: Option<Vec<u8>>,
    /// Records delivered to it, on the first path to this state.
    delivered: Vec<usize>,
    /// Records that the attacker has from it.
    gives: RecordSet,
    /// Following states, and the `tried` records that lead there.
    next: Vec<(usize, RecordSet)>,
    tried: RecordSet,
}

impl EndpointState {
    pub(crate) fn facts(&self) -> Option<&PeerFacts> {
        self.report.facts.as_ref()
    }
}

/// Identifies the state of an endpoint: its id, its report, its M2 and, unless it has failed, the
/// records delivered to it.
type StateKey = (u8, Report, Option<Vec<u8>>, Vec<usize>);

struct Explorer<'a> {
    world: &'a World,
    run: Run,
    /// Every record and its description.
    records: Vec<(Vec<u8>, String)>,
    record_ids: HashMap<Vec<u8>, usize>,
    states: Vec<EndpointState>,
    state_ids: HashMap<StateKey, usize>,
    runs: usize,
}

/// Explores up to `limit` states of `world`, those with the fewest deliveries first.
pub(crate) fn explore(world: &World, run: Run, limit: usize) -> Exploration {
    let (records, record_ids, states, state_ids) = Default::default();
    let mut explorer = Explorer { world, run, records, record_ids, states, state_ids, runs: 0 };
    let mut own = RecordSet::default();
    for (bytes, description) in forge::from_nothing() {
        own.insert(explorer.record(bytes, || description));
    }
    let mut start = WorldState::default();
    for (state, endpoint) in start.iter_mut().zip(&world.endpoints) {
        *state = explorer.endpoint_state(endpoint, Vec::new()) as u16;
    }
    let (mut completed, mut violations) = (BTreeSet::new(), BTreeMap::new());
    let mut seen = HashSet::from([start]);
    let mut queue = VecDeque::from([start]);
    while let Some(from) = queue.pop_front().filter(|_| seen.len() < limit) {
        let mut knowledge = own;
        let state = &from[..world.endpoints.len()];
        let states: Vec<&EndpointState> =
            state.iter().map(|&id| &explorer.states[usize::from(id)]).collect();
        states.iter().for_each(|state| knowledge.extend(&state.gives));
        completed.extend(properties::completed(&world.endpoints, &states));
        for violation in properties::violations(&world.endpoints, &states) {
            violations.entry(violation).or_insert_with(|| explorer.trace(state));
        }
        for (endpoint, &id) in state.iter().enumerate() {
            for next in explorer.next(endpoint, id.into(), &knowledge) {
                let mut to = from;
                to[endpoint] = next as u16;
                if seen.insert(to) {
                    queue.push_back(to);
                }
            }
        }
    }
    let (states, endpoint_states) = (seen.len(), explorer.states.len());
    let exhausted = queue.is_empty() && states < limit;
    Exploration { states, exhausted, endpoint_states, runs: explorer.runs, completed, violations }
}

impl Explorer<'_> {
    fn record(&mut self, bytes: Vec<u8>, description: impl FnOnce() -> String) -> usize {
        *self.record_ids.entry(bytes.clone()).or_insert_with(|| {
            self.records.push((bytes, description()));
            self.records.len() - 1
        })
    }

    /// Returns the state of an endpoint to which these records were delivered.
    fn endpoint_state(&mut self, endpoint: &Endpoint, delivered: Vec<usize>) -> usize {
        let bytes: Vec<&[u8]> = delivered.iter().map(|&id| &self.records[id].0[..]).collect();
        let report = (self.run)(endpoint, &bytes);
        self.runs += 1;
        let m2 = forge::m2(endpoint.side, &report.sent, bytes.first().copied());
        let history = if report.failed { Vec::new() } else { delivered.clone() };
        let key = (endpoint.id, report.clone(), m2.clone(), history);
        if let Some(&id) = self.state_ids.get(&key) {
            return id;
        }
        let mut gives = RecordSet::default();
        for record in &report.sent {
            let description = forge::describe(record, endpoint);
            gives.insert(self.record(record.clone(), || description.clone()));
            for (forged, how) in forge::from_record(record) {
                gives.insert(self.record(forged, || format!("{description} {how}")));
            }
        }
        let (next, tried) = Default::default();
        self.states.push(EndpointState { report, m2, delivered, gives, next, tried });
        self.state_ids.insert(key, self.states.len() - 1);
        self.states.len() - 1
    }

    /// Returns the states that an endpoint can reach by one delivery of what the attacker knows.
    fn next(&mut self, endpoint: usize, state: usize, knowledge: &RecordSet) -> Vec<usize> {
        if self.states[state].report.failed {
            return Vec::new();
        }
        for record in knowledge.difference(&self.states[state].tried) {
            let mut delivered = self.states[state].delivered.clone();
            delivered.push(record);
            let to = self.endpoint_state(&self.world.endpoints[endpoint], delivered);
            let from = &mut self.states[state];
            from.tried.insert(record);
            match from.next.iter_mut().find(|(next, _)| *next == to) {
                Some((_, by)) => by.insert(record),
                None => {
                    let mut by = RecordSet::default();
                    by.insert(record);
                    from.next.push((to, by));
                }
            }
        }
        let next = self.states[state].next.iter();
        next.filter(|(_, by)| by.intersects(knowledge)).map(|(to, _)| *to).collect()
    }

    /// Describes what was delivered to each endpoint.
    fn trace(&self, state: &[u16]) -> String {
        let deliveries = state.iter().zip(&self.world.endpoints).filter_map(|(&id, endpoint)| {
            let delivered = &self.states[usize::from(id)].delivered;
            let what: Vec<&str> = delivered.iter().map(|&id| &self.records[id].1[..]).collect();
            (!what.is_empty()).then(|| format!("{endpoint} received {}", what.join(", ")))
        });
        deliveries.collect::<Vec<_>>().join("; ")
    }
}
