//! The program from outside: its command line, its files, its signals, its sockets.

#![cfg(test)]

#[path = "../common/mod.rs"]
mod common;
mod neighbour;
mod peer;
mod process;
mod pythons;

mod bench;
mod connect;
mod crowds;
mod device;
mod hostile;
mod keys;
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

/// Long enough for nobody to be warned of it.
const KEY: &str = "a key that is long enough for anyone";
