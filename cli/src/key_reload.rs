//! Reloading the keys of running servers.

use countersign_host::SharedKeys;
use tracing::{error, info, warn};

use crate::args::ProtocolArgs;
use crate::loaded_keys::{self, IfMissing};

/// Loads the keys again from their file, for the servers that use them.
pub(crate) struct KeyReload {
    args: ProtocolArgs,
    keys: SharedKeys,
}

impl KeyReload {
    pub(crate) const fn new(args: ProtocolArgs, keys: SharedKeys) -> Self {
        Self { args, keys }
    }

    /// Reloads the keys. If the file has a mistake, the old keys stay in use. Returns whether the keys were
    /// replaced.
    pub(crate) fn reload(&self) -> bool {
        match loaded_keys::load(&self.args, IfMissing::Fail) {
            Ok(loaded) if !loaded.from_file => {
                info!(target: "countersign", "keys not reloaded: they do not come from a file");
                false
            }
            Ok(loaded) => {
                if let Some(warning) = &loaded.warning {
                    warn!(target: "countersign", "{warning}");
                }
                self.keys.replace(loaded.keys);
                info!(target: "countersign", "keys reloaded");
                true
            }
            Err(failed) => {
                error!(target: "countersign", "keys not reloaded, the old ones stay in use: {}", failed.message);
                false
            }
        }
    }
}
