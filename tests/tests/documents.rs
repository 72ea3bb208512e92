//! What the documents say of the tests and of the adapters.
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

fn first(words: &str) -> &str {
    words.split(' ').next().unwrap()
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
        .map(|(package, example)| (first(package), first(example)))
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

/// The adapters, each of which waits in its own way for what `drive` does.
const ADAPTERS: [&str; 4] = ["std", "mio", "smol", "embedded-io"];

/// The lines of an adapter that are code, without tests, which have to speak something.
fn code(adapter: &str) -> Vec<String> {
    let mut code = Vec::new();
    for entry in fs::read_dir(root().join("adapters").join(adapter).join("src")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let lines = text.lines().map(str::trim).take_while(|&it| it != "#[cfg(test)]");
        code.extend(lines.filter(|it| !it.is_empty() && !it.starts_with("//")).map(String::from));
    }
    assert!(code.len() > 100, "{adapter}: {} lines", code.len());
    code
}

/// Whoever adds a scheme, a framing or a channel around them touches no adapter, and whoever adds an
/// adapter has them all.
#[test]
fn no_adapter_knows_a_scheme_a_framing_or_tls() {
    const ANYWHERE: [&str; 9] = [
        "challenge",
        "multiprocessing",
        "mutual",
        "sealed",
        "scheme",
        "framing",
        "tls",
        "x509",
        "hmac",
    ];
    // Numbers are `u32` everywhere.
    const WORDS: [&str; 4] = ["Raw", "U32", "Config", "Session"];
    for adapter in ADAPTERS {
        for line in code(adapter) {
            let lower = line.to_lowercase();
            let known = ANYWHERE.iter().find(|it| lower.contains(**it));
            let is_word = |word: &&&str| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == **word)
            };
            let known = known.or(WORDS.iter().find(is_word));
            assert!(known.is_none(), "{adapter} knows {}: {line}", known.unwrap());
        }
    }
}

/// An adapter is what is left when all that two of them would repeat is in `drive`: waiting. One that
/// grows beyond this has begun to do what others do too, or what is not its business.
#[test]
fn every_adapter_is_small() {
    const MOST: usize = 900;
    for adapter in ADAPTERS {
        let lines = code(adapter).len();
        assert!(lines <= MOST, "{adapter} has {lines} lines of code");
    }
}
