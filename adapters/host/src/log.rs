//! Log lines of connections, the same on every adapter.
//!
//! A refused connection is logged as one line. Its form and its reason codes do not change between
//! versions:
//!
//! ```text
//! refused peer=192.0.2.7:51324 scheme=challenge reason=wrong-key
//! ```

use std::fmt;

use countersign::{CloseReason, Error, Peer};
use countersign_driver::{Failure, ServiceError};
use tracing::{debug, error, info, warn};

use crate::monitored_connection::ConnectionEnd;
use crate::peer_addr::PeerAddr;

/// Logs that a connection was refused. `reason` is one word.
pub fn log_refused(addr: &PeerAddr, scheme: &str, reason: &str) {
    warn!(target: "countersign", "refused peer={addr} scheme={scheme} reason={reason}");
}

/// Logs the end of a handshake, at the level debug, with the session id, by which the logs of both ends can
/// be matched.
pub fn log_established(addr: &PeerAddr, scheme: &str, peer: &Peer<'_>) {
    let (name, key_id) = (peer.name.unwrap_or("-"), peer.key_id.unwrap_or("-"));
    let session = Hex(peer.session_id.map_or(&[], |id| id));
    debug!(target: "countersign", "established peer={addr} scheme={scheme} name={name} kid={key_id} session={session}");
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

/// Logs the end of a connection.
pub fn log_end(addr: &PeerAddr, scheme: &str, end: &ConnectionEnd) {
    let ConnectionEnd { established, result, service } = end;
    let panicked = *service == Some(ServiceError::Panicked);
    if panicked {
        error!(target: "countersign", "the service of peer={addr} panicked");
    }
    let Err(failure) = result else {
        debug!(target: "countersign", "closed peer={addr} scheme={scheme}");
        return;
    };
    let reason = match (failure, service) {
        (Failure::Protocol(Error::Aborted(CloseReason::Shutdown)), None) => {
            debug!(target: "countersign", "stopped peer={addr} scheme={scheme}");
            return;
        }
        (Failure::Protocol(Error::Aborted(_)), Some(error)) if !panicked => {
            info!(target: "countersign", "ended peer={addr} scheme={scheme} reason={}: {error}", error.code());
            return;
        }
        (Failure::Io(_), _) => Error::Transport.code(),
        (Failure::Protocol(error), _) => error.code(),
    };
    if *established {
        info!(target: "countersign", "ended peer={addr} scheme={scheme} reason={reason}: {failure}");
    } else {
        log_refused(addr, scheme, reason);
        debug!(target: "countersign", "peer={addr}: {failure}");
    }
}
