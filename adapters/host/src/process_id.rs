//! The process id of this process.

use std::process;
use std::sync::{Mutex, PoisonError};

use countersign::ProcessId;
use getrandom::SysRng;

static PROCESS_ID: Mutex<Option<(u32, ProcessId)>> = Mutex::new(None);

/// The process id for all sessions of the scheme `mutual` in this process: 16 random bytes, drawn at the
/// first call, and again after a fork.
///
/// A session between two ends with the same process id is refused. A test that runs both ends in one
/// process gives each its own by [`ProcessId::from_bytes`].
///
/// # Errors
/// The random number generator of the system failed.
pub fn process_id() -> Result<ProcessId, getrandom::Error> {
    // No code that runs under the lock can leave the value inconsistent.
    let mut current = PROCESS_ID.lock().unwrap_or_else(PoisonError::into_inner);
    match &*current {
        Some((pid, process_id)) if *pid == process::id() => Ok(process_id.clone()),
        _ => {
            let process_id = ProcessId::generate(&mut SysRng)?;
            *current = Some((process::id(), process_id.clone()));
            Ok(process_id)
        }
    }
}
