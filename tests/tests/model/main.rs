//! Model check of the scheme `mutual`: what each side knows, and when (docs/PROTOCOL.md, "What each
//! side knows"), in all that can happen to the real protocol within a bound.
//!
//! The bound: worlds of up to six endpoints with one nonce each (world.rs). The attacker has every
//! record that any endpoint of the world has sent so far (M1, M2, M3, alerts, two messages of each
//! established side, CLOSE), the same with a field changed or the proof moved to another message,
//! and records of its own (forge.rs). It delivers whole records, any of them to any endpoint, in
//! any order and any number of times. The tests in attacks/ change single bits and truncate
//! records.
//!
//! Weakened copies of the core show that the check finds attacks: each protection is removed by a
//! patch (protections/, applied by build.rs). With `--nocapture` the tests print the sizes of the
//! worlds and the attacks found.
#![allow(clippy::unwrap_used, clippy::panic, clippy::duplicate_mod)]

mod explorer;
mod forge;
mod multiprocessing;
mod properties;
mod protection;
mod real;
mod weak;
mod world;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use explorer::explore;
use properties::Violation::{self, *};
use protection::Protection::{self, *};
use protection::without;
use world::World;

/// Explores `world` with the real core. Requires all intended sessions and no violation.
fn check(world: &World, at_least: usize) {
    let found = explore(world, real::driver::run, usize::MAX);
    println!(
        "{}: {} states of {} endpoint states, by {} runs",
        world.name, found.states, found.endpoint_states, found.runs
    );
    assert!(found.violations.is_empty(), "{}: {:#?}", world.name, found.violations);
    assert!(found.exhausted);
    assert!(found.states >= at_least, "{}: only {} states", world.name, found.states);
    assert!(found.completed.iter().copied().eq(world.pairs()), "{:?}", found.completed);
    assert!(!found.completed.is_empty());
}

#[test]
fn properties_hold_in_every_small_world() {
    for world in world::small() {
        check(&world, 2_500);
    }
}

#[test]
fn properties_hold_while_a_key_is_rotated() {
    check(&world::rotation(), 60_000);
}

#[test]
fn properties_hold_among_five_endpoints() {
    check(&world::three_and_two(), 250_000);
    check(&world::two_and_three(), 80_000);
}

#[test]
fn properties_hold_among_six_endpoints() {
    check(&world::three_and_three(), 3_000_000);
}

#[test]
fn copy_with_all_protections_behaves_as_the_core() {
    for world in world::small() {
        let [real, copy] = [real::driver::run, weak::driver::run]
            .map(|run| explore(&world, run, usize::MAX))
            .map(|found| (found.states, found.endpoint_states, found.completed, found.violations));
        assert_eq!(real, copy);
    }
}

/// Removed protections, a world, and exactly the violations that the removal permits in it.
type Weakness = (&'static [Protection], fn() -> World, &'static [Violation]);

const WEAKNESSES: &[Weakness] = &[
    // Without the proofs an attacker impersonates either side.
    (&[ServerVerifiesProof], world::other_key, &[ServerDeceived, M2Reused, WrongClientAnswered]),
    (&[ClientVerifiesProof], world::two_and_two, &[NoPartner]),
    // An M2 is valid on every connection to the server: the server answers one client twice. Where
    // both M3 are equal, frames reach the wrong session.
    (&[ProofsCoverServerHello], world::two_and_two, &[SessionShared, M2Reused, WrongMessage]),
    (&[ServerSendsFreshNonce], world::two_and_two, &[SessionShared, M2Reused, WrongMessage]),
    // An M3 is valid for every client that answered the same M1.
    (&[ServerProofCoversM2], world::two_and_two, &[SessionShared, Disagreement, WrongMessage]),
    (&[ClientSendsFreshNonce], world::two_and_two, &[SessionShared, M2Reused, WrongMessage]),
    // An attacker chooses the server's name, but cannot do without the server.
    (&[ServerProofCoversM3], world::expectations, &[Disagreement]),
    // Both sides prove the same bytes: without the label, an M2 answers itself.
    (&[ServerProofCoversM3, ProofsHaveRoleLabels], world::expectations, &[NoPartner, Disagreement]),
    // A side accepts its own messages as its peer's.
    (&[DirectionsHaveOwnKeys], world::channels, &[WrongMessage]),
    // The frames of one session are valid in another.
    (&[SessionKeyCoversTranscript], world::two_and_two, &[WrongMessage]),
    // An attacker repeats, reorders or makes frames.
    (&[TagCoversSequenceNumber], world::two_and_two, &[WrongMessage]),
    (&[ReceiverVerifiesTag], world::two_and_two, &[WrongMessage]),
    // A man in the middle of TLS relays everything.
    (&[TranscriptCoversExporter], world::channels, &[WrongClientAnswered, ChannelsDiffer]),
    (&[TranscriptCoversBinding], world::channels, &[WrongClientAnswered, ChannelsDiffer]),
    // A process under two names recognises itself by the process id alone, two processes of one
    // name by the name alone, and a process of one name by either.
    (&[ServerChecksOwnProcessId], world::one_process, &[SelfAtServer]),
    (&[ServerChecksOwnName], world::one_name, &[SelfAtServer]),
    (&[ServerChecksOwnName, ServerChecksOwnProcessId], world::both_roles, &[SelfAtServer]),
    // The client repeats the checks, for servers that have none.
    (
        &[ServerChecksOwnProcessId, ClientChecksOwnProcessId],
        world::one_process,
        &[SelfAtServer, SelfAtClient],
    ),
    (&[ServerChecksOwnName, ClientChecksOwnName], world::one_name, &[SelfAtServer, SelfAtClient]),
    (
        &[
            ServerChecksOwnName,
            ServerChecksOwnProcessId,
            ClientChecksOwnName,
            ClientChecksOwnProcessId,
        ],
        world::both_roles,
        &[SelfAtServer, SelfAtClient],
    ),
    (
        &[ServerChecksOwnName, ServerChecksOwnProcessId, ClientChecksOwnName],
        world::both_roles,
        &[SelfAtServer],
    ),
    (
        &[ServerChecksOwnName, ServerChecksOwnProcessId, ClientChecksOwnProcessId],
        world::both_roles,
        &[SelfAtServer],
    ),
    (&[ServerChecksExpectedName], world::expectations, &[WrongServerAnswered]),
    (
        &[ServerChecksExpectedName, ClientChecksExpectedName],
        world::expectations,
        &[WrongServerAnswered, WrongServerAccepted],
    ),
];

/// How many states of a weakened world are explored. A weak protocol can have very many; the
/// attacks are among the first.
const WEAK_STATES: usize = 20_000;

#[test]
fn each_removed_protection_permits_its_attack() {
    for &(removed, world, expected) in WEAKNESSES {
        let world = world();
        let found = without(removed, || explore(&world, weak::driver::run, WEAK_STATES));
        println!("without {removed:?}, {}:", world.name);
        for (violation, trace) in &found.violations {
            println!("    {violation:?}: {trace}");
        }
        let expected: BTreeSet<Violation> = expected.iter().copied().collect();
        let violations: BTreeSet<Violation> = found.violations.into_keys().collect();
        assert_eq!(violations, expected, "without {removed:?} in {}", world.name);
    }
}

/// Protections whose removal alone permits no attack within the bound, because others cover them.
const REDUNDANT: &[&[Protection]] = &[
    // The types and the number of the messages that a proof covers also differ between the roles.
    &[ProofsHaveRoleLabels],
    // The server's checks come first.
    &[ClientChecksOwnName, ClientChecksOwnProcessId],
    &[ClientChecksExpectedName],
    // M2 carries the key id and the suite, and every proof and the session key cover M2.
    &[ImportCoversKeyId],
];

#[test]
fn redundant_protections_can_be_removed_alone() {
    for removed in REDUNDANT {
        for world in world::small() {
            let found = without(removed, || explore(&world, weak::driver::run, usize::MAX));
            assert!(found.violations.is_empty(), "without {removed:?}: {:?}", found.violations);
        }
    }
}

/// The servers check nothing but the proof; the clients run the real core.
#[test]
fn client_checks_hold_without_those_of_the_server() {
    let run = |endpoint: &world::Endpoint, delivered: &[&[u8]]| match endpoint.side {
        world::Side::Client => real::driver::run(endpoint, delivered),
        world::Side::Server => weak::driver::run(endpoint, delivered),
    };
    let removed = [ServerChecksOwnName, ServerChecksOwnProcessId, ServerChecksExpectedName];
    for (world, deceived) in [
        (world::both_roles(), SelfAtServer),
        (world::one_process(), SelfAtServer),
        (world::one_name(), SelfAtServer),
        (world::expectations(), WrongServerAnswered),
    ] {
        let found = without(&removed, || explore(&world, run, usize::MAX));
        assert!(found.exhausted);
        assert!(found.violations.into_keys().eq([deceived]), "{}", world.name);
        assert!(found.completed.iter().copied().eq(world.pairs()), "{}", world.name);
    }
}

#[test]
fn name_or_process_id_suffices_in_a_process_of_one_name() {
    for removed in [ServerChecksOwnName, ServerChecksOwnProcessId] {
        let world = world::both_roles();
        let found = without(&[removed], || explore(&world, weak::driver::run, usize::MAX));
        assert!(found.violations.is_empty(), "without {removed:?}: {:?}", found.violations);
    }
}

#[test]
fn every_protection_with_a_patch_is_removed() {
    let removed = WEAKNESSES.iter().map(|(removed, ..)| *removed).chain(REDUNDANT.iter().copied());
    let removed: BTreeSet<String> = removed.flatten().map(Protection::patch).collect();
    let patches = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/protections");
    let patches: BTreeSet<String> = fs::read_dir(patches)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(removed, patches);
}
