//! This process, as peers tell it from others.

use std::process;
use std::sync::{Mutex, PoisonError};

use countersign::ProcessId;
use getrandom::SysRng;

static PROCESS_ID: Mutex<Option<(u32, ProcessId)>> = Mutex::new(None);

/// The instance of this process, which all its sessions of the scheme `mutual` are to have. Drawn
/// when it is first asked for, and again in a process that was forked off. A session between two
/// ends of one instance is refused, so a test that plays both gives each an instance of its own.
///
/// # Errors
/// There is no randomness to be had.
pub fn process_id() -> Result<ProcessId, getrandom::Error> {
    // No code runs under the lock that could leave it half changed.
    let mut known = PROCESS_ID.lock().unwrap_or_else(PoisonError::into_inner);
    match &*known {
        Some((id, instance)) if *id == process::id() => Ok(instance.clone()),
        _ => {
            let instance = ProcessId::generate(&mut SysRng)?;
            *known = Some((process::id(), instance.clone()));
            Ok(instance)
        }
    }
}
