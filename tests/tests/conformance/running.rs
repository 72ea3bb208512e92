//! A server of an adapter's, as it runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use countersign::Config;
use countersign_host::{
    Address, ConnectionLimit, PoolOptions, Pools, ServerHandle, ServerOptions, ServiceFactory,
    SharedKeys,
};
use countersign_tests::SECRET;

use crate::adapters::Adapter;
use crate::ways::Way;
use crate::{PATIENCE, until};

/// Length of a server's buffers: most messages here are longer.
pub(crate) const BUFFER: usize = 4096;

/// Buffers enough for everybody.
pub(crate) fn pools() -> Pools {
    pools_of(1024, BUFFER)
}

/// As many of each kind, of this length.
pub(crate) fn pools_of(count: usize, len: usize) -> Pools {
    let mut options = PoolOptions::default();
    (options.receiving, options.sending, options.buffer_len) = (count, count, len);
    Pools::new(&options)
}

/// Of a server that never gives up: its clients lose patience first.
pub(crate) fn options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.stop_timeout = 10 * PATIENCE;
    options
}

/// What a server is made of.
pub(crate) struct Setup {
    pub(crate) way: Way,
    pub(crate) config: fn(Config) -> Config,
    pub(crate) pools: Pools,
    pub(crate) options: ServerOptions,
    pub(crate) keys: Option<SharedKeys>,
    pub(crate) heartbeat: Duration,
    system_buffers: Option<usize>,
}

impl Setup {
    /// Nothing out of the ordinary.
    pub(crate) fn new(way: Way) -> Self {
        Self {
            way,
            config: |config| config,
            pools: pools(),
            options: options(),
            keys: None,
            heartbeat: Duration::from_secs(15),
            system_buffers: None,
        }
    }

    /// Its connections have buffers of about `len` bytes in the system, each way.
    pub(crate) fn with_system_buffers(mut self, len: usize) -> Self {
        self.system_buffers = Some(len);
        self
    }

    /// Starts it, on a TCP port and on a Unix socket.
    pub(crate) fn start<A: Adapter>(
        self,
        services: impl ServiceFactory<Service: 'static> + 'static,
    ) -> Running {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Self { way, config, pools, options, keys, heartbeat, system_buffers } = self;
        let name =
            format!("cs-conf-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        let mut listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        listeners.extend(Address::Unix(path.clone()).listen(1).unwrap());
        for listener in &listeners {
            if let Some(len) = system_buffers {
                let socket = socket2::SockRef::from(listener);
                socket.set_send_buffer_size(len).unwrap();
                socket.set_recv_buffer_size(len).unwrap();
            }
        }
        let at = [0, 1].map(|it: usize| listeners[it].address().unwrap());
        let connection_limit = options.connection_limit.clone();
        let keys = keys.unwrap_or_else(|| Arc::new(way.keys(SECRET)).into());
        let factory = way.server(&pools, config(way.config(heartbeat)));
        let (handle, thread) = A::serve(listeners, factory, keys, services, options);
        Running { way, at, pools, connection_limit, handle, path, thread: Some(thread) }
    }
}

/// A server that runs, and is stopped and waited for in the end.
pub(crate) struct Running {
    pub(crate) way: Way,
    /// Over TCP and over a Unix socket.
    pub(crate) at: [Address; 2],
    pub(crate) pools: Pools,
    pub(crate) connection_limit: ConnectionLimit,
    pub(crate) handle: ServerHandle,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Its TCP address.
    pub(crate) fn tcp(&self) -> &Address {
        &self.at[0]
    }

    /// Waits until it has `open` connections.
    pub(crate) fn until_open(&self, open: usize) {
        until(&format!("{open} connections, not {}", self.connection_limit.open()), || {
            self.connection_limit.open() == open
        });
    }

    /// Waits until nobody is here, and then nothing may be kept for anybody.
    pub(crate) fn until_empty(&self) {
        self.until_open(0);
        let Pools { handshake, receive, send } = &self.pools;
        // The last connection's socket and its buffers go one after the other.
        until("buffers come back", || {
            [handshake, receive, send].iter().all(|pool| pool.leased() == 0)
        });
    }

    /// Waits until it has stopped, as it was told to.
    pub(crate) fn join(mut self) {
        let thread = self.thread.take().unwrap();
        until("the server stops", || thread.is_finished());
        thread.join().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            // A test that fails has connections open, for which the server would wait.
            if !thread::panicking() {
                thread.join().unwrap();
            }
        }
    }
}
