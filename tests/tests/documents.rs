//! What the documents say of the tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all functions in Rust files below `path`.
fn functions(path: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                functions(&path, names);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            for line in fs::read_to_string(&path).unwrap().lines() {
                if let Some((_, rest)) = line.split_once("fn ") {
                    names.insert(rest.split(['(', '<']).next().unwrap().into());
                }
            }
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What is between backquotes.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Fails unless all of these, and at least as many as `least`, are functions of ours.
#[track_caller]
fn are_there(named: &BTreeSet<&str>, least: usize) {
    let mut known = BTreeSet::new();
    for folder in ["core", "adapters", "cli", "tests"] {
        functions(&root().join(folder), &mut known);
    }
    assert!(named.len() >= least, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|&&name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_test_that_security_md_names_is_there() {
    let text = fs::read_to_string(root().join("docs/SECURITY.md")).unwrap();
    let named = codes(&text)
        .filter_map(|code| code.rsplit_once("::"))
        .map(|(_, name)| name)
        .filter(|name| *name != "…")
        .collect();
    are_there(&named, 50);
}

#[test]
fn every_test_that_testing_md_has_for_one_of_cpythons_is_there() {
    let text = fs::read_to_string(root().join("docs/TESTING.md")).unwrap();
    let (_, table) = text.split_once("\n| theirs | ours |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let ours = table.lines().filter_map(|line| line.split(" | ").nth(1));
    are_there(&ours.flat_map(codes).collect(), 15);
}

#[test]
fn every_example_that_the_readme_names_is_there_and_every_example_is_named() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let named: BTreeSet<_> = codes(&text)
        .filter_map(|code| code.strip_prefix("cargo run -p countersign-"))
        .filter_map(|code| code.split_once(" --example "))
        .map(|(package, rest)| (package, rest.split(' ').next().unwrap()))
        .map(|(package, example)| format!("{package}/examples/{example}.rs"))
        .collect();
    let mut there = BTreeSet::new();
    for adapter in fs::read_dir(root().join("adapters")).unwrap() {
        let adapter = adapter.unwrap();
        let Ok(examples) = fs::read_dir(adapter.path().join("examples")) else { continue };
        for example in examples.map(|entry| entry.unwrap().path()) {
            if example.is_file() {
                let relative = example.strip_prefix(root().join("adapters")).unwrap();
                there.insert(relative.to_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(named, there);
}
