//! A server of the adapter under test: [`ServerSetup`] and [`RunningServer`].

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
use crate::protocol_spec::ProtocolSpec;
use crate::{TEST_TIMEOUT, wait_until};

/// Length of the server's buffers in bytes. Many messages in these tests are longer.
pub(crate) const BUFFER: usize = 4096;

/// Returns more buffers than any test needs.
pub(crate) fn pools() -> Pools {
    pools_of(1024, BUFFER)
}

/// Returns pools of `count` buffers of `len` bytes in each direction.
pub(crate) fn pools_of(count: usize, len: usize) -> Pools {
    let mut options = PoolOptions::default();
    (options.receiving, options.sending, options.buffer_len) = (count, count, len);
    Pools::new(&options)
}

/// Returns options with a stop timeout that exceeds the timeouts of clients and tests.
pub(crate) fn options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.stop_timeout = 10 * TEST_TIMEOUT;
    options
}

/// Parameters of a server.
pub(crate) struct ServerSetup {
    pub(crate) spec: ProtocolSpec,
    pub(crate) config: fn(Config) -> Config,
    pub(crate) pools: Pools,
    pub(crate) options: ServerOptions,
    pub(crate) keys: Option<SharedKeys>,
    pub(crate) heartbeat: Duration,
    system_buffers: Option<usize>,
}

impl ServerSetup {
    /// Makes default parameters.
    pub(crate) fn new(spec: ProtocolSpec) -> Self {
        Self {
            spec,
            config: |config| config,
            pools: pools(),
            options: options(),
            keys: None,
            heartbeat: Duration::from_secs(15),
            system_buffers: None,
        }
    }

    /// Sets the length of the socket buffers in each direction, about `len` bytes.
    pub(crate) fn with_system_buffers(mut self, len: usize) -> Self {
        self.system_buffers = Some(len);
        self
    }

    /// Starts the server on a TCP port and on a Unix socket.
    pub(crate) fn start<A: Adapter>(
        self,
        services: impl ServiceFactory<Service: 'static> + 'static,
    ) -> RunningServer {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Self { spec, config, pools, options, keys, heartbeat, system_buffers } = self;
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
        let addresses = [0, 1].map(|index: usize| listeners[index].address().unwrap());
        let connection_limit = options.connection_limit.clone();
        let keys = keys.unwrap_or_else(|| Arc::new(spec.keys(SECRET)).into());
        let factory = spec.server_factory(&pools, config(spec.config(heartbeat)));
        let (handle, thread) = A::serve(listeners, factory, keys, services, options);
        RunningServer {
            spec,
            addresses,
            pools,
            connection_limit,
            handle,
            path,
            thread: Some(thread),
        }
    }
}

/// A running server. Dropping it stops the server and waits for its thread.
pub(crate) struct RunningServer {
    pub(crate) spec: ProtocolSpec,
    /// Its TCP address and its Unix socket.
    pub(crate) addresses: [Address; 2],
    pub(crate) pools: Pools,
    pub(crate) connection_limit: ConnectionLimit,
    pub(crate) handle: ServerHandle,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// Returns its TCP address.
    pub(crate) fn tcp(&self) -> &Address {
        &self.addresses[0]
    }

    /// Waits until the server has `open` connections.
    pub(crate) fn wait_until_open(&self, open: usize) {
        wait_until(
            &format!("{open} connections are open, not {}", self.connection_limit.open()),
            || self.connection_limit.open() == open,
        );
    }

    /// Waits until the server has no connections and has released all buffers.
    pub(crate) fn wait_until_empty(&self) {
        self.wait_until_open(0);
        let Pools { handshake, receive, send } = &self.pools;
        // A connection is closed before its buffers are released.
        wait_until("all buffers are released", || {
            [handshake, receive, send].iter().all(|pool| pool.leased() == 0)
        });
    }

    /// Waits until the server has stopped. The caller has stopped it.
    pub(crate) fn join(mut self) {
        let thread = self.thread.take().unwrap();
        wait_until("the server stops", || thread.is_finished());
        thread.join().unwrap();
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(format!("{}.lock", self.path.display()));
        if let Some(thread) = self.thread.take() {
            self.handle.stop();
            // The connections of a failed test may be open, and the server would wait for them.
            if !thread::panicking() {
                thread.join().unwrap();
            }
        }
    }
}
