//! The command `countersign` as a black box: options, files, signals and sockets.

#![cfg(test)]

#[path = "../common/common.rs"]
mod common;
mod cpython;
mod honest_client;
mod impostor;
mod peer;
mod process;
mod tools;

mod bench;
mod connect;
mod device;
mod hostile;
mod keys;
mod limits;
mod listen;
mod log;
mod multiprocessing;
mod mutual;
mod mutual_python;
mod python_md;
mod recipe;
mod shutdown;
mod terminal;
mod tls;
mod usage;

/// A key that is long enough to cause no warning.
const KEY: &str = "a key that is long enough for anyone";
