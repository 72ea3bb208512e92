//! The CPythons of this machine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Once, OnceLock};
use std::{env, iter};

use crate::common::skip;
use crate::process::at_once;

/// What speaks the scheme multiprocessing in one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Generation {
    /// HMAC-MD5 over 20 bytes, and no word of it.
    Old,
    /// Says which digest it uses.
    New,
}

#[derive(Debug)]
pub(crate) struct Python {
    pub(crate) program: PathBuf,
    pub(crate) version: (u32, u32, u32),
}

impl Python {
    /// `None` if it does not run, as many of pyenv's do not, or has no multiprocessing.
    fn try_at(program: PathBuf) -> Option<Self> {
        let ask = "import multiprocessing.connection, sys
assert sys.implementation.name == 'cpython'
print(*sys.version_info[:3])";
        let told = Command::new(&program).args(["-c", ask]).output().ok()?;
        let told = String::from_utf8(told.stdout).ok()?;
        let mut numbers = told.split_whitespace().map_while(|number| number.parse().ok());
        let version = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Self { program, version })
    }

    pub(crate) fn generation(&self) -> Generation {
        if self.version < (3, 12, 0) { Generation::Old } else { Generation::New }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // Leaves nothing beside the sources.
        command.arg("-B");
        command
    }
}

impl Generation {
    pub(crate) const BOTH: [Self; 2] = [Self::Old, Self::New];

    /// The first in PATH, or with COUNTERSIGN_PYTHONS=all one of each version there; none, having
    /// said so once, if there is none.
    pub(crate) fn pythons(self) -> impl Iterator<Item = &'static Python> {
        static OLD: Once = Once::new();
        static NEW: Once = Once::new();
        let of_this = move |python: &&Python| python.generation() == self;
        if !all().iter().any(|python| of_this(&python)) {
            let (once, what) = match self {
                Self::Old => (&OLD, "a CPython of 3.11 or older"),
                Self::New => (&NEW, "a CPython of 3.12 or newer"),
            };
            // Where nothing may be skipped each test fails, not the first alone.
            once.call_once_force(|_| skip(what));
        }
        all().iter().filter(of_this)
    }
}

/// Does `each` for the CPythons of both generations.
pub(crate) fn for_each_python(each: impl Fn(&Python) + Sync) {
    at_once(Generation::BOTH, |generation| generation.pythons().for_each(&each));
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
