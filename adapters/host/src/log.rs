//! What is written of connections, the same by every adapter.
//!
//! A refused connection is one line, in a form that will not change:
//!
//! ```text
//! refused peer=192.0.2.7:51324 scheme=challenge reason=wrong-key
//! ```

use std::fmt;
use std::io;

use countersign::{CloseReason, Error, Peer};
use tracing::{debug, info, warn};

use crate::net::PeerAddr;
use countersign_driver::Failure;

/// A connection was turned away before a handshake began; `reason` is one word.
pub fn log_refused(origin: &PeerAddr, scheme: &str, reason: &str) {
    warn!(target: "countersign", "refused peer={origin} scheme={scheme} reason={reason}");
}

/// A connection's handshake is over. At the level debug, with the session's id, by which the two
/// ends' logs can be matched.
pub fn log_established(origin: &PeerAddr, scheme: &str, peer: &Peer<'_>) {
    let (name, kid) = (peer.name.unwrap_or("-"), peer.key_id.unwrap_or("-"));
    let session = Hex(peer.session_id.map_or(&[], |id| id));
    debug!(target: "countersign", "established peer={origin} scheme={scheme} name={name} kid={kid} session={session}");
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("-"),
            bytes => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

/// A connection is over. `established`: its handshake was.
pub fn log_end(
    origin: &PeerAddr,
    scheme: &str,
    established: bool,
    how: &Result<(), Failure<io::Error>>,
) {
    match how {
        Ok(()) => debug!(target: "countersign", "closed peer={origin} scheme={scheme}"),
        Err(Failure::Protocol(Error::Aborted(CloseReason::Shutdown))) => {
            debug!(target: "countersign", "stopped peer={origin} scheme={scheme}");
        }
        Err(failure) => {
            let reason = match failure {
                Failure::Io(_) => Error::Transport.code(),
                Failure::Protocol(error) => error.code(),
            };
            if established {
                info!(target: "countersign", "ended peer={origin} scheme={scheme} reason={reason}: {failure}");
            } else {
                log_refused(origin, scheme, reason);
                debug!(target: "countersign", "peer={origin}: {failure}");
            }
        }
    }
}
