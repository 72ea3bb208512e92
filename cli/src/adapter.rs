//! Servers on each adapter.

use std::io;
use std::sync::Arc;

use countersign_host::{
    Listener, ProtocolFactory, ServerHandle, ServerOptions, ServiceFactory, SharedKeys,
};

use crate::args::ServeAdapter;

/// A server, to be run on a thread of its own.
pub(crate) struct Runnable {
    pub(crate) handle: ServerHandle,
    /// Serves until the handle stops it.
    pub(crate) run: Box<dyn FnOnce() -> io::Result<()> + Send>,
}

/// A server on `adapter`.
pub(crate) fn server<F: ServiceFactory + 'static>(
    adapter: ServeAdapter,
    listeners: Vec<Listener>,
    factory: Arc<dyn ProtocolFactory>,
    keys: SharedKeys,
    services: F,
    options: ServerOptions,
) -> io::Result<Runnable> {
    Ok(match adapter {
        ServeAdapter::Mio => {
            let mut server = countersign_mio::Server::new(listeners, factory, keys, options)?;
            let handle = server.handle();
            Runnable { handle, run: Box::new(move || server.run_with(&services)) }
        }
        ServeAdapter::Std => {
            let mut server = countersign_std::Server::new(listeners, factory, keys, options)?;
            let handle = server.handle();
            let run = move || {
                server.run_with(&services);
                Ok(())
            };
            Runnable { handle, run: Box::new(run) }
        }
        ServeAdapter::Smol => {
            let server = countersign_smol::Server::new(listeners, factory, keys, options)?;
            let handle = server.handle();
            let run = move || {
                smol::block_on(server.run_with(&services));
                Ok(())
            };
            Runnable { handle, run: Box::new(run) }
        }
    })
}
