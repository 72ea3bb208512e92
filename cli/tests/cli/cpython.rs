//! The CPython versions on this machine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::{env, iter};

use crate::common::skip;
use crate::process::in_parallel;

/// The versions of CPython with the same handshake in multiprocessing.connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Generation {
    /// Up to 3.11: HMAC-MD5 over 20 bytes, without the name of the digest.
    Old,
    /// From 3.12: names the digest.
    New,
}

#[derive(Debug)]
pub(crate) struct Python {
    pub(crate) program: PathBuf,
    pub(crate) version: (u32, u32, u32),
}

impl Python {
    /// The interpreter at `program`. `None` if it does not run, like many shims of pyenv, or lacks
    /// multiprocessing.
    fn try_at(program: PathBuf) -> Option<Self> {
        let script = "import multiprocessing.connection, sys
assert sys.implementation.name == 'cpython'
print(*sys.version_info[:3])";
        let output = Command::new(&program).args(["-c", script]).output().ok()?;
        let output = String::from_utf8(output.stdout).ok()?;
        let mut numbers = output.split_whitespace().map_while(|number| number.parse().ok());
        let version = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Self { program, version })
    }

    pub(crate) fn generation(&self) -> Generation {
        if self.version < (3, 12, 0) { Generation::Old } else { Generation::New }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // -B: no __pycache__ in the source tree.
        command.arg("-B");
        command
    }
}

impl Generation {
    pub(crate) const BOTH: [Self; 2] = [Self::Old, Self::New];

    /// The first interpreter of this generation in PATH, or with COUNTERSIGN_PYTHONS=all one of each
    /// version in PATH. If there is none, reports a skip once.
    pub(crate) fn pythons(self) -> impl Iterator<Item = &'static Python> {
        static OLD: Once = Once::new();
        static NEW: Once = Once::new();
        let of_this = move |python: &&Python| python.generation() == self;
        if !all().iter().any(|python| of_this(&python)) {
            let (once, what) = match self {
                Self::Old => (&OLD, "a CPython of 3.11 or older"),
                Self::New => (&NEW, "a CPython of 3.12 or newer"),
            };
            // `force`: if skips are failures, every test fails, not only the first one.
            once.call_once_force(|_| skip(what));
        }
        all().iter().filter(of_this)
    }
}

/// Runs `each` for the interpreters of both generations.
pub(crate) fn for_each_python(each: impl Fn(&Python) + Sync) {
    in_parallel(Generation::BOTH, |generation| generation.pythons().for_each(&each));
}

fn all() -> &'static [Python] {
    static FOUND: OnceLock<Vec<Python>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let every = env::var_os("COUNTERSIGN_PYTHONS").is_some_and(|which| which == "all");
        let path = env::var_os("PATH").unwrap_or_default();
        let names = (6..=15).map(|minor| format!("python3.{minor}"));
        let mut found: Vec<Python> = Vec::new();
        for name in iter::once("python3".to_owned()).chain(names) {
            let here = env::split_paths(&path).map(|folder| folder.join(&name));
            for python in here.filter(|program| program.exists()).filter_map(Python::try_at) {
                let like = |other: &Python| match every {
                    true => other.version == python.version,
                    false => other.generation() == python.generation(),
                };
                if !found.iter().any(like) {
                    found.push(python);
                }
                if !every && found.len() == Generation::BOTH.len() {
                    return found;
                }
            }
        }
        found
    })
}
