//! Makes a copy of the core in which each protection of the scheme `mutual` can be switched off, for
//! the model check to show that it would notice (tests/model/). The copy is the source as it is but
//! for the substitutions below; each pattern must occur exactly once, so that none goes stale.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Where the copy is included: what `crate` is in the original.
const HERE: &str = "crate::weak::protocol";

/// A protection, and what takes it out: in which file, what, and by what it is replaced, with `OFF`
/// for whether the protection is off.
type Switch = (&'static str, &'static [(&'static str, &'static str, &'static str)]);

const MUTUAL: &str = "handshake/mutual.rs";
const MESSAGE: &str = "handshake/mutual/message.rs";
const SCHEDULE: &str = "crypto/key_schedule.rs";
const SEALED: &str = "framing/sealed.rs";

const SWITCHES: &[Switch] = &[
    ("SERVER_NAME", &[(MUTUAL, "if m2.name == me.name {", "if !OFF && m2.name == me.name {")]),
    (
        "SERVER_INSTANCE",
        &[(
            MUTUAL,
            "if m2.process_id == me.process_id {",
            "if !OFF && m2.process_id == me.process_id {",
        )],
    ),
    ("CLIENT_NAME", &[(MUTUAL, "if m3.name == me.name {", "if !OFF && m3.name == me.name {")]),
    (
        "CLIENT_INSTANCE",
        &[(
            MUTUAL,
            "if m3.process_id == me.process_id {",
            "if !OFF && m3.process_id == me.process_id {",
        )],
    ),
    (
        "SERVER_EXPECTED",
        &[(MUTUAL, "if !m2.expected.is_empty()", "if !OFF && !m2.expected.is_empty()")],
    ),
    (
        "CLIENT_EXPECTED",
        &[(
            MUTUAL,
            "} else if m3.name != me.expected {",
            "} else if !OFF && m3.name != me.expected {",
        )],
    ),
    (
        "SERVER_VERIFIES",
        &[(
            MUTUAL,
            "(imported, right & real)",
            "(imported, (right | Choice::from(u8::from(OFF))) & real)",
        )],
    ),
    (
        "CLIENT_VERIFIES",
        &[(
            MUTUAL,
            "if !bool::from(key_schedule::verify(&proof, m3.mac))",
            "if !OFF && !bool::from(key_schedule::verify(&proof, m3.mac))",
        )],
    ),
    // M1 is hashed, and the server's nonce with it.
    (
        "M1_HASHED",
        &[
            (
                MUTUAL,
                ".absorb(received).absorb(unproved)",
                ".absorb(if OFF { &[] } else { received }).absorb(unproved)",
            ),
            (
                MUTUAL,
                ".absorb(out.queued()).absorb(unproved)",
                ".absorb(if OFF { &[] } else { out.queued() }).absorb(unproved)",
            ),
            (
                MUTUAL,
                ".absorb(&received[..self.start.into()])",
                ".absorb(if OFF { &[] } else { &received[..self.start.into()] })",
            ),
        ],
    ),
    // M2 is in what the server proves, and the client's nonce with it.
    (
        "M2_PROVED",
        &[
            (
                MUTUAL,
                "let m3 = message::first_mut(out.draft());",
                "let m1_alone = Transcript::new(self.binding.as_deref()).absorb(out.queued());\nlet m3 = message::first_mut(out.draft());",
            ),
            (
                MUTUAL,
                "let transcript = transcript.absorb(mac)",
                "let transcript = if OFF { m1_alone } else { transcript }.absorb(if OFF || M3_PROVED_OFF { &[] } else { mac })",
            ),
            (
                MUTUAL,
                ".absorb(out.queued())\n",
                ".absorb(if OFF { &[] } else if M3_PROVED_OFF { message::split_proof(out.queued()).0 } else { out.queued() })\n",
            ),
        ],
    ),
    // M3 is in what the server proves; without it, and without the client's proof, both prove the
    // same bytes.
    (
        "M3_PROVED",
        &[
            (
                MUTUAL,
                ".absorb(message::split_proof(m3).0)",
                ".absorb(if OFF { &[] } else { message::split_proof(m3).0 })",
            ),
            (
                MUTUAL,
                "                    .absorb(unproved);",
                ".absorb(if OFF { &[] } else { unproved });",
            ),
        ],
    ),
    (
        "SERVER_NONCE",
        &[(MESSAGE, "to.put(nonce);", "to.put(if OFF { &[0; NONCE_LEN] } else { nonce });")],
    ),
    (
        "CLIENT_NONCE",
        &[(
            MESSAGE,
            "to.put(client.nonce);",
            "to.put(if OFF { &[0; NONCE_LEN] } else { client.nonce });",
        )],
    ),
    (
        "ROLE_LABEL",
        &[(
            SCHEDULE,
            "let (derive, label): (&[u8], &[u8]) = match role {",
            "let (derive, label): (&[u8], &[u8]) = match if OFF { Role::Client } else { role } {",
        )],
    ),
    (
        "DIRECTION_LABEL",
        &[(
            SCHEDULE,
            "let direction: &[u8] = match sender {",
            "let direction: &[u8] = match if OFF { Role::Client } else { sender } {",
        )],
    ),
    // The session's keys depend on the session.
    (
        "TH_IN_MASTER",
        &[(SCHEDULE, "&[b\"session\", th]", "&[b\"session\", if OFF { &[0; LEN] } else { th }]")],
    ),
    (
        "CHANNEL",
        &[(
            SCHEDULE,
            "hash.chain_update([1]).chain_update(exporter)",
            "hash.chain_update([1]).chain_update(if OFF { &[0; LEN] } else { exporter })",
        )],
    ),
    // That a session is bound to any channel at all.
    ("BOUND", &[(SCHEDULE, "match binding {", "match binding.filter(|_| !OFF) {")]),
    (
        "KID_IMPORTED",
        &[(
            SCHEDULE,
            "&[b\"import\", &lv, kid.as_bytes()]",
            "&[b\"import\", if OFF { &[] } else { &lv }, if OFF { &[] } else { kid.as_bytes() }]",
        )],
    ),
    (
        "SEQUENCE",
        &[(
            SEALED,
            "&[&self.seq.to_be_bytes(), frame]",
            "&[&(if OFF { 0 } else { self.seq }).to_be_bytes(), frame]",
        )],
    ),
    (
        "TAG_VERIFIED",
        &[(
            SEALED,
            "if self.seal.tagged && !bool::from",
            "if !OFF && self.seal.tagged && !bool::from",
        )],
    ),
];

fn main() {
    let source = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../core/src");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut substitutions = Substitutions::new();
    let mut copy = inline(&source, "lib.rs", &source, &mut substitutions);
    assert!(substitutions.0.is_empty(), "not a file of the core: {:?}", substitutions.0.keys());
    copy.push_str(&switchboard());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap());
    fs::write(out.join("weak.rs"), copy).unwrap();
    // For the benchmark that counts instructions, which depend on it.
    let rustc = Command::new(env::var_os("RUSTC").unwrap()).arg("--version").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    println!("cargo::rustc-env=COUNTERSIGN_TESTS_RUSTC={}", version.trim());
}

/// What is to be replaced by what, for each file.
struct Substitutions(BTreeMap<&'static str, Vec<(&'static str, String)>>);

impl Substitutions {
    fn new() -> Self {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for (name, edits) in SWITCHES {
            for (file, pattern, replacement) in *edits {
                let replacement = replacement
                    .replace("M3_PROVED_OFF", &is_off("M3_PROVED"))
                    .replace("OFF", &is_off(name));
                all.entry(*file).or_default().push((*pattern, replacement));
            }
        }
        Self(all)
    }

    fn apply(&mut self, file: &str, original: &str) -> String {
        let mut text = original.to_owned();
        for (pattern, replacement) in self.0.remove(file).unwrap_or_default() {
            assert_eq!(original.matches(pattern).count(), 1, "{file}: `{pattern}` occurs");
            assert_eq!(text.matches(pattern).count(), 1, "{file}: `{pattern}` was replaced");
            text = text.replacen(pattern, &replacement, 1);
        }
        text
    }
}

fn is_off(switch: &str) -> String {
    format!("crate::is_off(crate::Switch::{switch})")
}

/// `file` with the modules that it declares in their places, and without its tests. `children` is
/// where the files of these modules are.
fn inline(root: &Path, file: &str, children: &Path, substitutions: &mut Substitutions) -> String {
    let text = fs::read_to_string(root.join(file)).unwrap();
    let text = substitutions.apply(file, &text);
    let mut out = String::new();
    let mut skipped = false;
    for line in text.lines() {
        let code = line.trim_start();
        let declared = ["mod ", "pub mod ", "pub(crate) mod "]
            .iter()
            .find_map(|start| line.strip_prefix(start)?.strip_suffix(';'));
        if code.starts_with("#![") || code.starts_with("//!") {
            continue;
        }
        if let (Some(name), false) = (declared, skipped) {
            let nested = children.join(name);
            let path = [children.join(format!("{name}.rs")), nested.join("mod.rs")]
                .into_iter()
                .find(|path| path.exists())
                .unwrap_or_else(|| panic!("{file}: where is mod {name}?"));
            let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let body = inline(root, &path, &nested, substitutions);
            let head = line.strip_suffix(';').unwrap();
            writeln!(out, "{head} {{\n{body}}}").unwrap();
        } else {
            // What is only for tests must not run here, where all is.
            let line = line.replace("#[cfg(test)]", "#[cfg(any())]");
            writeln!(out, "{}", line.replace("crate::", &format!("{HERE}::"))).unwrap();
        }
        skipped = code == "#[cfg(test)]";
    }
    out
}

/// The switches, by which each thread can weaken the copy for itself.
fn switchboard() -> String {
    let names = SWITCHES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    format!(
        "#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {{ {names} }}
impl Switch {{
    pub const ALL: &'static [Self] = {{ use Switch::*; &[{names}] }};
}}
std::thread_local! {{
    static OFF: std::cell::Cell<u32> = const {{ std::cell::Cell::new(0) }};
}}
pub fn weaken(switches: &[Switch]) {{
    OFF.set(switches.iter().fold(0, |off, switch| off | 1 << *switch as u32));
}}
fn is_off(switch: Switch) -> bool {{
    OFF.get() & (1 << switch as u32) != 0
}}
"
    )
}
