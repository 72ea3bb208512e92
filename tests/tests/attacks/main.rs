//! Attacks by name against the real protocol: what an attacker without the key, on the path or as a
//! peer, can and cannot achieve.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bits;
mod downgrade;
mod endpoint;
mod identity;
mod limits;
mod multiprocessing;
mod oracle;
mod party;
mod randomness;
mod replay;
mod truncation;
