//! Makes the copy of the core whose protections the model check removes (tests/model/).
//!
//! The copy is core/src with the patches of tests/model/protections/, which are applied one after
//! the other. The removals are patch files so that the core stays free of switches. A reviewer
//! reads in a diff which line each of them weakens. A patch that no longer applies fails the build,
//! so none becomes stale without notice.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use diffy::{Hunk, Line, Patch};

const CORE: &str = "core/src";
const PATCHES: &str = "tests/tests/model/protections";
/// The path in the test's crate of the copy's root module.
const COPY: &str = "crate::weak::protocol";

/// Source files by their paths from the repository's root.
type Files = BTreeMap<String, String>;

fn main() {
    let repository = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    println!("cargo::rerun-if-changed=build.rs");
    for directory in [CORE, PATCHES] {
        println!("cargo::rerun-if-changed={}", repository.join(directory).display());
    }
    let mut files = read(&repository, CORE);
    for (name, patch) in read(&repository, PATCHES) {
        apply(&name, &patch, &mut files);
    }
    files.get_mut("core/src/lib.rs").unwrap().push_str("use super::Protection;\n");
    let copy = out.join(CORE);
    if copy.exists() {
        fs::remove_dir_all(&copy).unwrap();
    }
    for (file, text) in files {
        let path = out.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, as_module(&text)).unwrap();
    }
    // The core is linted where it comes from.
    let root =
        "#[allow(warnings, missing_docs)] #[path = \"core/src/lib.rs\"] pub(crate) mod protocol;";
    fs::write(out.join("weak.rs"), root).unwrap();

    // The benchmark of instruction counts reports the compiler version: the counts depend on it.
    let rustc = Command::new(env::var_os("RUSTC").unwrap()).arg("--version").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    println!("cargo::rustc-env=COUNTERSIGN_TESTS_RUSTC={}", version.trim());
}

/// Reads all files below `directory`.
fn read(repository: &Path, directory: &str) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(repository.join(directory)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{directory}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files.extend(read(repository, &path));
        } else {
            let text = fs::read_to_string(entry.path()).unwrap();
            files.insert(path, text);
        }
    }
    files
}

/// Applies the patch `name` to its file. Panics unless each hunk fits in exactly one place.
fn apply(name: &str, patch: &str, files: &mut Files) {
    let patch = Patch::from_str(patch).unwrap_or_else(|error| panic!("{name}: {error}"));
    let file = patch.original().and_then(|path| path.strip_prefix("a/")).unwrap_or_default();
    let Some(text) = files.get_mut(file) else { panic!("{name}: no file `{file}` in {CORE}") };
    for (index, hunk) in patch.hunks().iter().enumerate() {
        check(&format!("{name}, hunk {}: {file}", index + 1), hunk, text);
    }
    *text = diffy::apply(text, &patch).unwrap_or_else(|error| panic!("{name}: {error}"));
}

/// Panics unless the lines that `hunk` replaces occur in `text` exactly once.
fn check(place: &str, hunk: &Hunk<'_, str>, text: &str) {
    let replaced: Vec<&str> = hunk
        .lines()
        .iter()
        .filter_map(|line| match line {
            Line::Context(line) | Line::Delete(line) => Some(*line),
            Line::Insert(_) => None,
        })
        .collect();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let candidates = || lines.windows(replaced.len());
    match candidates().filter(|found| *found == replaced).count() {
        1 => {}
        0 => {
            let likeness = |found: &&[&str]| -> usize {
                found.iter().zip(&replaced).map(|(a, b)| common_prefix(a, b)).sum()
            };
            let closest = candidates().max_by_key(likeness).unwrap_or_default();
            let (replaced, closest) = (replaced.concat(), closest.concat());
            let difference = diffy::create_patch(&replaced, &closest);
            panic!("{place} has no such lines. From the patch to the closest lines:\n{difference}")
        }
        n => panic!("{place} has these lines {n} times:\n{}", replaced.concat()),
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.trim().bytes().zip(b.trim().bytes()).take_while(|(a, b)| a == b).count()
}

/// Makes a file of a crate into one of the module [`COPY`], without the crate's unit tests.
fn as_module(text: &str) -> String {
    text.replace("#[cfg(test)]", "#[cfg(any())]").replace("crate::", &format!("{COPY}::"))
}
