//! Servers on one runtime or another.

use std::io;
use std::sync::Arc;

use countersign_host::{Listener, Open, ProtocolFactory, ServerHandle, ServerOptions, SharedKeys};

use crate::args::ServeAdapter;

/// A server that is to run on a thread of its own.
pub(crate) struct Runnable {
    pub(crate) remote: ServerHandle,
    /// Serves until the remote stops it.
    pub(crate) run: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

/// A server of `adapter`.
pub(crate) fn server<O: Open + Send + 'static>(
    adapter: ServeAdapter,
    listeners: Vec<Listener>,
    protocol: Arc<dyn ProtocolFactory>,
    keys: SharedKeys,
    open: O,
    options: ServerOptions,
) -> io::Result<Runnable> {
    Ok(match adapter {
        ServeAdapter::Mio => {
            let mut server =
                countersign_mio::Server::new(listeners, protocol, keys, open, options)?;
            Runnable { remote: server.remote(), run: Box::new(move || server.run()) }
        }
        ServeAdapter::Std => {
            let mut server =
                countersign_std::Server::new(listeners, protocol, keys, open, options)?;
            let remote = server.remote();
            let run = move || {
                server.run();
                Ok(())
            };
            Runnable { remote, run: Box::new(run) }
        }
        ServeAdapter::Smol => {
            let server = countersign_smol::Server::new(listeners, protocol, keys, open, options)?;
            let remote = server.remote();
            let run = move || {
                smol::block_on(server.run());
                Ok(())
            };
            Runnable { remote, run: Box::new(run) }
        }
    })
}
