//! Attacks, each by name, against the real machines: what an attacker who is between the ends, or is
//! one of them and has no key, can reach, and what he cannot.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bits;
mod downgrade;
mod ends;
mod identity;
mod limits;
mod multiprocessing;
mod oracle;
mod randomness;
mod replay;
mod truncation;
