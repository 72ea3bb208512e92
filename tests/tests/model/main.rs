//! What each side knows, and when (docs/PROTOCOL.md, "What each side knows"), by looking at all that
//! can happen within a bound, to the real machines of the scheme `mutual`.
//!
//! The bound: worlds of up to six machines with one nonce each, see world.rs. The attacker has every
//! record that any machine of the world sent so far (M1, M2, M3, alerts, two messages of each side
//! that is established, CLOSE), the same with a field changed or the proof moved to another message,
//! and what he makes himself, see forge.rs. He delivers whole records, any of them to any machine in
//! any order and as often as he likes. What changes within a record, and records cut off, are in
//! attacks.
//!
//! That it would notice is shown with a copy of the core of which protections are switched off: see
//! build.rs. With `--nocapture` it says how large the worlds are and what comes of weak protocols.
#![allow(clippy::unwrap_used, clippy::panic, clippy::duplicate_mod)]

mod explorer;
mod forge;
mod multiprocessing;
mod properties;
mod real;
mod weak;
mod world;

use std::collections::BTreeSet;

use explorer::{Found, explore};
use properties::Violation::{self, *};
use weak::protocol::Switch::{self, *};
use weak::protocol::weaken;
use world::World;

/// Explores `world` with the real core, and finds all good runs and no bad one.
fn holds(world: &World, at_least: usize) -> Found {
    let found = explore(world, real::driver::run, usize::MAX);
    println!(
        "{}: {} states of {} states of machines, by {} runs",
        world.name, found.states, found.locals, found.runs
    );
    assert!(found.violations.is_empty(), "{}: {:#?}", world.name, found.violations);
    assert!(found.exhausted);
    assert!(found.states >= at_least, "{}: only {} states", world.name, found.states);
    // Those who are to come together can, and nobody else.
    assert!(found.completed.iter().copied().eq(world.pairs()), "{:?}", found.completed);
    assert!(!found.completed.is_empty());
    found
}

#[test]
fn each_side_knows_what_it_should_in_every_small_world() {
    for world in world::small() {
        holds(&world, 2_500);
    }
}

#[test]
fn each_side_knows_what_it_should_while_a_key_is_replaced() {
    holds(&world::rotation(), 60_000);
}

#[test]
fn each_side_knows_what_it_should_among_three_and_two() {
    holds(&world::three_and_two(), 250_000);
    holds(&world::two_and_three(), 80_000);
}

#[test]
fn each_side_knows_what_it_should_among_three_and_three() {
    holds(&world::three_and_three(), 3_000_000);
}

#[test]
fn the_copy_with_all_protections_on_is_the_core() {
    for world in world::small() {
        let [real, copy] = [real::driver::run, weak::driver::run]
            .map(|run| explore(&world, run, usize::MAX))
            .map(|found| (found.states, found.locals, found.completed, found.violations));
        assert_eq!(real, copy);
    }
}

/// What is found in a world when some protections are off, and nothing else is.
type Weakness = (&'static [Switch], fn() -> World, &'static [Violation]);

/// Protections each of which has something to hold.
const WEAKNESSES: &[Weakness] = &[
    // Without the proofs there is nothing.
    (&[SERVER_VERIFIES], world::strangers, &[ServerFooled, ClientDoubled, StrangerAnswered]),
    (&[CLIENT_VERIFIES], world::two_and_two, &[NobodyThere]),
    // M2 is good for any connection to the server: a server twice answers one client, and where its
    // M3 is the same each time, frames go to the wrong session.
    (&[M1_HASHED], world::two_and_two, &[SessionShared, ClientDoubled, WrongMessage]),
    (&[SERVER_NONCE], world::two_and_two, &[SessionShared, ClientDoubled, WrongMessage]),
    // M3 is good for any client that answered the same M1.
    (&[M2_PROVED], world::two_and_two, &[SessionShared, Disagreement, WrongMessage]),
    (&[CLIENT_NONCE], world::two_and_two, &[SessionShared, ClientDoubled, WrongMessage]),
    // The server's name is anybody's to choose, but a server there must be.
    (&[M3_PROVED], world::expectations, &[Disagreement]),
    // Both sides prove the same bytes, so without the label M2 answers itself.
    (&[M3_PROVED, ROLE_LABEL], world::expectations, &[NobodyThere, Disagreement]),
    // What a side says comes back to it as its peer's.
    (&[DIRECTION_LABEL], world::channels, &[WrongMessage]),
    // The frames of one session are good in another.
    (&[TH_IN_MASTER], world::two_and_two, &[WrongMessage]),
    // Frames are repeated, or come in another order, or somebody makes them.
    (&[SEQUENCE], world::two_and_two, &[WrongMessage]),
    (&[TAG_VERIFIED], world::two_and_two, &[WrongMessage]),
    // Whoever is in the middle of TLS passes everything on.
    (&[CHANNEL], world::channels, &[StrangerAnswered, ChannelsDiffer]),
    (&[BOUND], world::channels, &[StrangerAnswered, ChannelsDiffer]),
    // A node under two names is known by its instance alone, two processes of a name by the name
    // alone, and a process of one name by either.
    (&[SERVER_INSTANCE], world::one_process, &[SelfAtServer]),
    (&[SERVER_NAME], world::one_name, &[SelfAtServer]),
    (&[SERVER_NAME, SERVER_INSTANCE], world::both_roles, &[SelfAtServer]),
    // The client's own checks are for servers that have none, and do the same again.
    (&[SERVER_INSTANCE, CLIENT_INSTANCE], world::one_process, &[SelfAtServer, SelfAtClient]),
    (&[SERVER_NAME, CLIENT_NAME], world::one_name, &[SelfAtServer, SelfAtClient]),
    (
        &[SERVER_NAME, SERVER_INSTANCE, CLIENT_NAME, CLIENT_INSTANCE],
        world::both_roles,
        &[SelfAtServer, SelfAtClient],
    ),
    (&[SERVER_NAME, SERVER_INSTANCE, CLIENT_NAME], world::both_roles, &[SelfAtServer]),
    (&[SERVER_NAME, SERVER_INSTANCE, CLIENT_INSTANCE], world::both_roles, &[SelfAtServer]),
    (&[SERVER_EXPECTED], world::expectations, &[WrongServerAnswers]),
    (
        &[SERVER_EXPECTED, CLIENT_EXPECTED],
        world::expectations,
        &[WrongServerAnswers, WrongServerAccepted],
    ),
];

/// A weak protocol can make a small world large; what is wrong with it is near.
const NEAR: usize = 20_000;

#[test]
fn each_protection_taken_out_is_noticed() {
    for &(off, world, expected) in WEAKNESSES {
        weaken(off);
        let world = world();
        let found = explore(&world, weak::driver::run, NEAR);
        println!("without {off:?}, {}:", world.name);
        for (violation, story) in &found.violations {
            println!("    {violation:?}: {story}");
        }
        let expected: BTreeSet<Violation> = expected.iter().copied().collect();
        let violations: BTreeSet<Violation> = found.violations.into_keys().collect();
        assert_eq!(violations, expected, "{off:?} in {}", world.name);
    }
    weaken(&[]);
}

/// What no attack in the bound gets past when it is taken out alone, because of another.
const COVERED: &[&[Switch]] = &[
    // Beside what it labels, a proof is over messages whose types and number tell the roles apart.
    &[ROLE_LABEL],
    // The server's checks come first.
    &[CLIENT_NAME, CLIENT_INSTANCE],
    &[CLIENT_EXPECTED],
    // The kid and the suite are in M2, which every proof and th are over.
    &[KID_IMPORTED],
];

#[test]
fn what_another_protection_covers_can_be_taken_out_alone() {
    for off in COVERED {
        weaken(off);
        for world in world::small() {
            let found = explore(&world, weak::driver::run, usize::MAX);
            assert!(found.violations.is_empty(), "{off:?}: {:?}", found.violations);
        }
    }
    weaken(&[]);
}

/// Servers that check nothing but the proof, and the real client.
#[test]
fn a_client_does_not_rely_on_the_server_to_know_itself() {
    let run = |spec: &world::Spec, delivered: &[&[u8]]| match spec.side {
        world::Side::Client => real::driver::run(spec, delivered),
        world::Side::Server => weak::driver::run(spec, delivered),
    };
    weaken(&[SERVER_NAME, SERVER_INSTANCE, SERVER_EXPECTED]);
    for (world, fooled) in [
        (world::both_roles(), SelfAtServer),
        (world::one_process(), SelfAtServer),
        (world::one_name(), SelfAtServer),
        (world::expectations(), WrongServerAnswers),
    ] {
        let found = explore(&world, run, usize::MAX);
        assert!(found.exhausted);
        assert!(found.violations.into_keys().eq([fooled]), "{}", world.name);
        assert!(found.completed.iter().copied().eq(world.pairs()), "{}", world.name);
    }
    weaken(&[]);
}

/// In one process of one name each of the two checks makes up for the other.
#[test]
fn a_process_of_one_name_knows_itself_by_name_or_by_instance() {
    for off in [SERVER_NAME, SERVER_INSTANCE] {
        weaken(&[off]);
        let found = explore(&world::both_roles(), weak::driver::run, usize::MAX);
        assert!(found.violations.is_empty(), "{off:?}: {:?}", found.violations);
    }
    weaken(&[]);
}

#[test]
fn every_protection_that_can_be_switched_off_was() {
    let tried = WEAKNESSES.iter().map(|(off, ..)| *off).chain(COVERED.iter().copied());
    let tried: BTreeSet<Switch> = tried.flatten().copied().collect();
    assert!(tried.iter().eq(Switch::ALL));
}
