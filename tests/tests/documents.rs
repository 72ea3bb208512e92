//! Checks what the documents state about the tests and the adapters.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// Adds the names of all functions in Rust files below `path` to `names`.
fn collect_functions(path: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect_functions(&path, names);
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

/// Returns the text between backquotes.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn first_word(words: &str) -> &str {
    words.split(' ').next().unwrap()
}

/// Panics unless all `named` functions exist and are at least `least` in number.
#[track_caller]
fn assert_functions_exist(named: &BTreeSet<&str>, least: usize) {
    let mut known = BTreeSet::new();
    for folder in ["core", "adapters", "services", "cli", "tests"] {
        collect_functions(&root().join(folder), &mut known);
    }
    assert!(named.len() >= least, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|&&name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_test_named_in_security_md_exists() {
    let text = document("docs/SECURITY.md");
    let named = code_spans(&text)
        .filter_map(|code| code.rsplit_once("::"))
        .map(|(_, name)| name)
        .filter(|name| *name != "…")
        .collect();
    assert_functions_exist(&named, 50);
}

#[test]
fn every_counterpart_of_a_cpython_test_exists() {
    let text = document("docs/TESTING.md");
    let (_, table) = text.split_once("\n| theirs | ours |\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let ours = table.lines().filter_map(|line| line.split(" | ").nth(1));
    assert_functions_exist(&ours.flat_map(code_spans).collect(), 15);
}

#[test]
fn readme_names_exactly_the_existing_examples() {
    let text = document("README.md");
    let named: BTreeSet<_> = code_spans(&text)
        .filter_map(|code| code.strip_prefix("cargo run -p countersign-"))
        .filter_map(|code| code.split_once(" --example "))
        .map(|(package, example)| (first_word(package), first_word(example)))
        .map(|(package, example)| format!("{package}/examples/{example}.rs"))
        .collect();
    let mut existing = BTreeSet::new();
    for folder in ["adapters", "services"].map(|folder| root().join(folder)) {
        for package in fs::read_dir(&folder).unwrap() {
            let package = package.unwrap();
            let Ok(examples) = fs::read_dir(package.path().join("examples")) else { continue };
            for example in examples.map(|entry| entry.unwrap().path()) {
                if example.is_file() {
                    let relative = example.strip_prefix(&folder).unwrap();
                    existing.insert(relative.to_str().unwrap().to_owned());
                }
            }
        }
    }
    assert_eq!(named, existing);
}

/// The adapters. Code that they share is in the libraries.
const ADAPTERS: [&str; 5] = ["std", "mio", "smol", "futures", "embedded-io"];

/// Most lines of code of an adapter.
const MAX_LINES: usize = 500;

/// The other crates in `adapters/`: libraries of the adapters, and TLS as a protocol around
/// another.
const LIBRARIES: [&str; 3] = ["driver", "host", "tls"];

/// Returns the lines of code of an adapter, without its unit tests and what it re-exports.
fn code(adapter: &str) -> Vec<String> {
    let mut code = Vec::new();
    collect_code(&root().join("adapters").join(adapter).join("src"), &mut code);
    assert!(code.len() > 100, "{adapter}: {} lines", code.len());
    code
}

fn collect_code(path: &Path, code: &mut Vec<String>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_code(&path, code);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut skipped = false;
        for line in text.lines().map(str::trim).take_while(|&it| it != "#[cfg(test)]") {
            // Up to its semicolon: a re-export, or the README as tests.
            skipped |= line.starts_with("pub use ") || line == "#[cfg(doctest)]";
            if !skipped && !line.is_empty() && !line.starts_with("//") {
                code.push(line.to_owned());
            }
            skipped &= !line.ends_with(';');
        }
    }
}

#[test]
fn every_crate_in_adapters_is_an_adapter_or_a_library() {
    let crates: BTreeSet<_> = fs::read_dir(root().join("adapters"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = ADAPTERS.iter().chain(&LIBRARIES).map(|name| (*name).to_owned()).collect();
    assert_eq!(crates, known);
}

/// A new scheme, framing or channel changes no adapter, and a new adapter supports all of them.
#[test]
fn no_adapter_mentions_a_scheme_a_framing_or_tls() {
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
    // The type `u32` itself is common, so these match whole words only.
    const WORDS: [&str; 4] = ["Raw", "U32", "Config", "Session"];
    for adapter in ADAPTERS {
        for line in code(adapter) {
            let lower = line.to_lowercase();
            let mentioned = ANYWHERE.iter().find(|it| lower.contains(**it));
            let is_word = |word: &&&str| {
                line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|it| it == **word)
            };
            let mentioned = mentioned.or(WORDS.iter().find(is_word));
            assert!(mentioned.is_none(), "{adapter} mentions {}: {line}", mentioned.unwrap());
        }
    }
}

/// What two adapters would repeat belongs in `adapters/driver` or `adapters/host`.
#[test]
fn every_adapter_stays_within_its_line_limit() {
    for adapter in ADAPTERS {
        let lines = code(adapter).len();
        assert!(lines <= MAX_LINES, "{adapter} has {lines} lines of code");
    }
}
