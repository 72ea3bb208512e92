//! The modules of the crate form layers: each uses only modules of lower layers.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The top-level modules, lowest layer first. A module may use the modules of lower layers only, so
/// two modules of one layer may not use each other.
const LAYERS: &[&[&str]] = &[
    &["error", "event", "name", "process_id", "role", "storage", "time"],
    &["crypto", "lease_term"],
    &["config", "key_request", "peer"],
    &["framing"],
    &["handshake", "recv_buffer", "send_buffer"],
    &["outbox"],
    &["protocol"],
    &["session"],
];

/// A module by its path from the crate root, which is the empty path.
type Module = Vec<String>;

/// Every module with its source, without comments and tests.
fn sources() -> BTreeMap<Module, String> {
    fn visit(dir: &Path, parent: &Module, modules: &mut BTreeMap<Module, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            if name == "tests" {
                continue;
            }
            let mut module = parent.clone();
            if name != "lib" {
                module.push(name.to_owned());
            }
            if path.is_dir() {
                visit(&path, &module, modules);
            } else {
                modules.insert(module, code(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut modules = BTreeMap::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &Vec::new(), &mut modules);
    modules
}

/// `source` without comments and without the test module, which is last.
fn code(source: &str) -> String {
    let end = source.find("#[cfg(test)]\nmod tests").unwrap_or(source.len());
    let lines = source[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths in `code`, at any place, that begin with `crate::` or `super::`; groups in braces are
/// expanded.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for prefix in ["crate::", "super::"] {
        for (at, _) in code.match_indices(prefix) {
            // The first segment of a path only: not the second `super` of `super::super`.
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| c != ':' && !is_identifier(c)) {
                expand(&code[at..], &mut Vec::new(), &mut paths);
            }
        }
    }
    paths
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Adds the paths at the front of `text` to `paths`, below `base`. Returns what follows them.
fn expand<'a>(text: &'a str, base: &mut Vec<String>, paths: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut text) = text.strip_prefix('{') {
        loop {
            text = expand(text, base, paths).trim_start();
            text = text.strip_prefix(',').unwrap_or(text).trim_start();
            if text.is_empty() || text.starts_with('}') {
                return text.get(1..).unwrap_or_default();
            }
        }
    }
    let len = text.find(|c| !is_identifier(c)).unwrap_or(text.len());
    let (segment, mut text) = text.split_at(len);
    base.push(segment.to_owned());
    match text.strip_prefix("::") {
        Some(rest) => text = expand(rest, base, paths),
        None => paths.push(base.clone()),
    }
    base.pop();
    // The rest of `path as name`.
    let end = text.find([',', '}', ';', '(', '\n']).unwrap_or(text.len());
    if text.trim_start().starts_with("as ") { &text[end..] } else { text }
}

/// The module that contains the item at `path`, as seen from the module `from`.
fn resolve(path: &[String], from: &Module, modules: &BTreeMap<Module, String>) -> Module {
    let mut absolute = from.clone();
    for segment in path {
        match segment.as_str() {
            "crate" => absolute.clear(),
            "super" => drop(absolute.pop()),
            "self" => {}
            name => absolute.push(name.to_owned()),
        }
    }
    while !absolute.is_empty() && !modules.contains_key(&absolute) {
        absolute.pop();
    }
    absolute
}

/// The dependencies between modules of one parent. That of `a::b` on `a::c::d` is one of `a::b` on
/// `a::c`. A module and its own children may use each other.
fn dependencies() -> BTreeMap<Module, BTreeSet<Module>> {
    let modules = sources();
    let mut dependencies = BTreeMap::<_, BTreeSet<_>>::new();
    for (from, code) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        for path in paths(code) {
            let to = resolve(&path, from, &modules);
            assert!(
                !to.is_empty(),
                "{} uses {}: name the module, not its re-export",
                from.join("::"),
                path.join("::")
            );
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if shared < from.len() && shared < to.len() {
                dependencies
                    .entry(from[..=shared].to_vec())
                    .or_default()
                    .insert(to[..=shared].to_vec());
            }
        }
    }
    dependencies
}

#[test]
fn modules_are_layered() {
    let dependencies = dependencies();

    // Top-level modules: every one has a layer and uses lower layers only.
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    for module in sources().keys().filter(|module| module.len() == 1) {
        assert!(layer(&module[0]).is_some(), "{} has no layer", module[0]);
    }
    for (from, to) in dependencies.iter().filter(|(from, _)| from.len() == 1) {
        for to in to {
            assert!(
                layer(&to[0]) < layer(&from[0]),
                "{} must not use {}, which is not in a lower layer",
                from[0],
                to[0]
            );
        }
    }

    // Modules of one parent, at any depth: no cycles.
    for module in dependencies.keys() {
        let mut reached = BTreeSet::new();
        let mut pending: Vec<_> = dependencies[module].iter().collect();
        while let Some(next) = pending.pop() {
            assert_ne!(next, module, "{} depends on itself indirectly", module.join("::"));
            if reached.insert(next) {
                pending.extend(dependencies.get(next).into_iter().flatten());
            }
        }
    }

    // Known dependencies check the parser of this test.
    let uses = |from: &[&str], to: &[&str]| {
        dependencies[&from.iter().map(ToString::to_string).collect::<Module>()]
            .contains(&to.iter().map(ToString::to_string).collect::<Module>())
    };
    assert!(uses(&["session"], &["handshake"]) && uses(&["handshake"], &["crypto"]));
    assert!(uses(&["handshake", "mutual"], &["handshake", "buffer"]));
    assert!(uses(&["session", "protocol"], &["session", "deadlines"]));
}
