//! All that an attacker can bring about who keeps every record that any machine of a world ever sent
//! and delivers any of them to any machine, in any order, as often as he likes, or not at all.
//!
//! Machines are deterministic and hear of each other through the attacker alone. So the state of one
//! is what was delivered to it, and that of a world is the states of its machines; how they came
//! about does not matter, for what the attacker once has he keeps. Each machine's states are found
//! by running it from its beginning, once for each state and record, and the world's by combining
//! them. SessionFactory that have failed are one state if they sent and know the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::forge;
use crate::properties::{self, Violation};
use crate::world::{Facts, Report, Spec, World};

/// No world has more machines.
const MACHINES: usize = 6;

/// A state of a world: those of its machines.
type State = [u16; MACHINES];

/// The driver of one core.
pub(crate) type Run = fn(&Spec, &[&[u8]]) -> Report;

/// What was found in a world.
pub(crate) struct Found {
    /// States of the world.
    pub(crate) states: usize,
    /// Whether that is all of them.
    pub(crate) exhausted: bool,
    /// States of its machines.
    pub(crate) locals: usize,
    /// Runs of a machine from its beginning.
    pub(crate) runs: usize,
    /// Clients and servers of which each heard the other.
    pub(crate) completed: BTreeSet<(usize, usize)>,
    /// What must not be, each with how it came about first.
    pub(crate) violations: BTreeMap<Violation, String>,
}

/// A set of records.
#[derive(Clone, Copy, Default)]
struct Set([u64; 16]);

impl Set {
    fn insert(&mut self, record: usize) {
        self.0[record / 64] |= 1 << (record % 64);
    }

    fn join(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(to, from)| *to |= from);
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(a, b)| a & b != 0)
    }

    fn without(&self, other: &Self) -> Vec<usize> {
        let words = self.0.iter().zip(other.0).enumerate();
        let mut left = Vec::new();
        for (word, bits) in words.map(|(word, (a, b))| (word, a & !b)).filter(|(_, b)| *b != 0) {
            left.extend((0..64).filter(|bit| bits & (1 << bit) != 0).map(|bit| 64 * word + bit));
        }
        left
    }
}

/// A state of one machine.
pub(crate) struct Local {
    pub(crate) report: Report,
    /// A client: the M2 that it sent. A server: the one that it answered with M3.
    pub(crate) m2: Option<Vec<u8>>,
    /// What was delivered to it, as it got here first.
    delivered: Vec<usize>,
    /// What the attacker has of it.
    gives: Set,
    /// Where it goes from here, and by which records; only `tried` ones.
    next: Vec<(usize, Set)>,
    tried: Set,
}

impl Local {
    pub(crate) fn facts(&self) -> Option<&Facts> {
        self.report.facts.as_ref()
    }
}

/// What sets a state of a machine apart: whose it is, what was seen of it, its M2, and unless that is
/// all that there will ever be, what was delivered to it.
type Apart = (u8, Report, Option<Vec<u8>>, Vec<usize>);

struct Explorer<'a> {
    world: &'a World,
    run: Run,
    /// Every record, and what it is.
    records: Vec<(Vec<u8>, String)>,
    ids: HashMap<Vec<u8>, usize>,
    locals: Vec<Local>,
    known: HashMap<Apart, usize>,
    runs: usize,
}

/// Explores all of `world`, or of a large one so many states, the nearest first. Only a protocol
/// that is broken makes a small world large.
pub(crate) fn explore(world: &World, run: Run, limit: usize) -> Found {
    let (records, ids, locals, known) = Default::default();
    let mut explorer = Explorer { world, run, records, ids, locals, known, runs: 0 };
    let mut own = Set::default();
    for (bytes, what) in forge::from_nothing() {
        own.insert(explorer.record(bytes, || what));
    }
    let mut start = State::default();
    for (local, machine) in start.iter_mut().zip(&world.machines) {
        *local = explorer.local(machine, Vec::new()) as u16;
    }
    let (mut completed, mut violations) = (BTreeSet::new(), BTreeMap::new());
    let mut seen = HashSet::from([start]);
    let mut queue = VecDeque::from([start]);
    while let Some(from) = queue.pop_front().filter(|_| seen.len() < limit) {
        let mut knowledge = own;
        let state = &from[..world.machines.len()];
        let locals: Vec<&Local> =
            state.iter().map(|&local| &explorer.locals[usize::from(local)]).collect();
        locals.iter().for_each(|local| knowledge.join(&local.gives));
        completed.extend(properties::completed(&world.machines, &locals));
        for violation in properties::violations(&world.machines, &locals) {
            violations.entry(violation).or_insert_with(|| explorer.story(state));
        }
        for (machine, &local) in state.iter().enumerate() {
            for next in explorer.next(machine, local.into(), &knowledge) {
                let mut to = from;
                to[machine] = next as u16;
                if seen.insert(to) {
                    queue.push_back(to);
                }
            }
        }
    }
    let (states, locals) = (seen.len(), explorer.locals.len());
    let exhausted = queue.is_empty() && states < limit;
    Found { states, exhausted, locals, runs: explorer.runs, completed, violations }
}

impl Explorer<'_> {
    fn record(&mut self, bytes: Vec<u8>, what: impl FnOnce() -> String) -> usize {
        *self.ids.entry(bytes.clone()).or_insert_with(|| {
            self.records.push((bytes, what()));
            self.records.len() - 1
        })
    }

    /// The state that a machine is in when this was delivered to it.
    fn local(&mut self, spec: &Spec, delivered: Vec<usize>) -> usize {
        let bytes: Vec<&[u8]> = delivered.iter().map(|&id| &self.records[id].0[..]).collect();
        let report = (self.run)(spec, &bytes);
        self.runs += 1;
        let m2 = forge::m2(spec.side, &report.emitted, bytes.first().copied());
        let apart = if report.over { Vec::new() } else { delivered.clone() };
        let key = (spec.id, report.clone(), m2.clone(), apart);
        if let Some(&local) = self.known.get(&key) {
            return local;
        }
        let mut gives = Set::default();
        for record in &report.emitted {
            let what = forge::describe(record, spec);
            gives.insert(self.record(record.clone(), || what.clone()));
            for (edited, how) in forge::from_record(record) {
                gives.insert(self.record(edited, || format!("{what} {how}")));
            }
        }
        let (next, tried) = Default::default();
        self.locals.push(Local { report, m2, delivered, gives, next, tried });
        self.known.insert(key, self.locals.len() - 1);
        self.locals.len() - 1
    }

    /// Where a machine can go from a state, given what the attacker has.
    fn next(&mut self, machine: usize, local: usize, knowledge: &Set) -> Vec<usize> {
        if self.locals[local].report.over {
            return Vec::new();
        }
        for record in knowledge.without(&self.locals[local].tried) {
            let mut delivered = self.locals[local].delivered.clone();
            delivered.push(record);
            let to = self.local(&self.world.machines[machine], delivered);
            let from = &mut self.locals[local];
            from.tried.insert(record);
            match from.next.iter_mut().find(|(next, _)| *next == to) {
                Some((_, by)) => by.insert(record),
                None => {
                    let mut by = Set::default();
                    by.insert(record);
                    from.next.push((to, by));
                }
            }
        }
        let next = self.locals[local].next.iter();
        next.filter(|(_, by)| by.meets(knowledge)).map(|(to, _)| *to).collect()
    }

    /// What was delivered to whom.
    fn story(&self, state: &[u16]) -> String {
        let told = state.iter().zip(&self.world.machines).filter_map(|(&local, machine)| {
            let delivered = &self.locals[usize::from(local)].delivered;
            let what: Vec<&str> = delivered.iter().map(|&id| &self.records[id].1[..]).collect();
            (!what.is_empty()).then(|| format!("{} got {}", forge::call(machine), what.join(", ")))
        });
        told.collect::<Vec<_>>().join("; ")
    }
}
