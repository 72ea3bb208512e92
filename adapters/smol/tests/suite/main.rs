//! The server, the client and the connection task, over sockets and over in-memory pipes.

#![cfg(test)]

mod calls;
mod cancel;
mod connection;
mod pipe;
mod schemes;
mod server;
mod stop;
mod task;

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use countersign::{
    Config, Digest, Framing, Key, Multiprocessing, Mutual, Outbox, ProcessId, Role, Scheme,
};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Flow};
use countersign_host::{
    Address, ConnectionHandle, ConnectionOptions, Connector, MessageMemory, OutstandingChallenges,
    PoolOptions, Pools, ServerHandle, ServerOptions, ServiceFactory, SessionFactory, SharedKeys,
    Streams,
};
use countersign_smol::Server;
use smol::{Executor, Timer, channel as async_channel, future};

/// Time limit for events that must happen. Far longer than any of them takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Timeout that a test expects to expire.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
pub(crate) const NO_KEY: Option<Key> = None;
pub(crate) const SECRET: &[u8] = b"a key that is long enough for anyone";

/// Every scheme, with its configuration and key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    None,
    Challenge,
    Mutual,
    Multiprocessing,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] =
        [Self::None, Self::Challenge, Self::Mutual, Self::Multiprocessing];

    pub(crate) fn config(self, role: Role) -> Config {
        let (name, process) = match role {
            Role::Client => ("client", 1),
            Role::Server => ("server", 2),
        };
        match self {
            Self::None => Config::new(Scheme::None),
            Self::Challenge => {
                let scheme = Scheme::Challenge { digest: Digest::Sha256 };
                Config::new(scheme).with_framing(Framing::U32)
            }
            Self::Mutual => {
                let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
                Config::new(Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id)))
            }
            Self::Multiprocessing => {
                Config::new(Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)))
            }
        }
    }

    /// Sessions of one role, with their own record of outstanding challenges.
    pub(crate) fn sessions(self, role: Role) -> SessionFactory {
        self.sessions_in(role, &PoolOptions::default())
    }

    pub(crate) fn sessions_in(self, role: Role, pools: &PoolOptions) -> SessionFactory {
        SessionFactory::new(self.config(role), Pools::new(pools))
            .with_outstanding(OutstandingChallenges::new())
    }

    pub(crate) fn key(self, secret: &[u8]) -> Option<Key> {
        match self {
            Self::None => None,
            Self::Challenge | Self::Multiprocessing => {
                Some(Key::challenge(Digest::Sha256, secret).unwrap())
            }
            Self::Mutual => Some(Key::mutual(secret).unwrap()),
        }
    }
}

/// Awaits `future`; panics after [`PATIENCE`].
pub(crate) async fn with_timeout<T>(future: impl Future<Output = T>) -> T {
    let timeout = async {
        Timer::after(PATIENCE).await;
        panic!("timed out");
    };
    future::or(future, timeout).await
}

/// Runs `future` on this thread; panics after [`PATIENCE`].
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    smol::block_on(with_timeout(future))
}

/// Blocks this thread until `condition` holds; panics with `failure` after [`PATIENCE`].
pub(crate) fn wait_until(failure: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{failure}");
        thread::yield_now();
    }
}

/// `len` bytes with a pattern that does not repeat every 256 bytes.
pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// `body` as a frame of the `u32` framing.
pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

/// Options of a server that stops its connections only after its clients have timed out.
pub(crate) fn options() -> ServerOptions {
    let mut options = ServerOptions::default();
    options.stop_timeout = 10 * PATIENCE;
    options
}

/// Connector of a client to `address`, with `timeout` for each call.
pub(crate) fn connector(
    address: &Address,
    factory: SessionFactory,
    key: Option<Key>,
    timeout: Duration,
) -> Connector {
    let mut options = ConnectionOptions::default();
    options.timeout = Some(timeout);
    options.message_memory = MessageMemory::new(64 << 20, 256 << 20);
    Connector::of(address.clone(), Arc::new(factory), Arc::new(key)).with_options(options)
}

/// Connector of a client over a transport that is already connected.
pub(crate) fn connector_over(factory: SessionFactory, key: Option<Key>) -> Connector {
    connector(&tcp(), factory, key, PATIENCE)
}

/// Services that send every message back while it arrives.
pub(crate) fn echo() -> impl ServiceFactory + 'static {
    Streams(|_: ConnectionHandle| Echo)
}

/// Sends a chunk back if there is room.
pub(crate) fn send_back(chunk: Chunk<'_>, out: &mut Outbox<'_>) -> Flow {
    if out.send_chunk(chunk.bytes, chunk.remaining).is_ok() {
        Flow::Consumed
    } else {
        Flow::Backpressure
    }
}

/// The executor that polls a server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Runtime {
    /// `smol::block_on`.
    OneThread,
    /// An executor with two threads.
    TwoThreads,
}

impl Runtime {
    pub(crate) const ALL: [Self; 2] = [Self::OneThread, Self::TwoThreads];

    /// Runs `future` to completion.
    pub(crate) fn run<T: Send>(self, future: impl Future<Output = T> + Send) -> T {
        match self {
            Self::OneThread => smol::block_on(future),
            Self::TwoThreads => {
                let executor = Executor::new();
                let (over, is_over) = async_channel::bounded::<()>(1);
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| smol::block_on(executor.run(is_over.recv())));
                    }
                    let result = smol::block_on(executor.spawn(future));
                    drop(over);
                    result
                })
            }
        }
    }
}

pub(crate) fn tcp() -> Address {
    "127.0.0.1:0".parse().unwrap()
}

/// A Unix socket address with a unique path.
pub(crate) fn unix() -> Address {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "countersign-smol-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    Address::Unix(std::env::temp_dir().join(name))
}

/// A running server, stopped on drop.
pub(crate) struct Running {
    pub(crate) address: Address,
    pub(crate) handle: ServerHandle,
    end: Receiver<()>,
}

impl Running {
    /// A server of the scheme `none`, over TCP.
    pub(crate) fn start(services: impl ServiceFactory + 'static, options: ServerOptions) -> Self {
        let sessions = Kind::None.sessions(Role::Server);
        Self::start_at(Runtime::OneThread, &tcp(), sessions, Arc::new(NO_KEY), services, options)
    }

    pub(crate) fn start_at(
        runtime: Runtime,
        address: &Address,
        protocol: SessionFactory,
        keys: impl Into<SharedKeys>,
        services: impl ServiceFactory + 'static,
        options: ServerOptions,
    ) -> Self {
        let listeners = address.listen(1).unwrap();
        let address = listeners[0].address().unwrap();
        let server = Server::new(listeners, Arc::new(protocol), keys, options).unwrap();
        let handle = server.handle();
        let (ended, end) = channel();
        thread::spawn(move || {
            runtime.run(server.run_with(services));
            let _ = ended.send(());
        });
        Self { address, handle, end }
    }

    /// A plain TCP client.
    pub(crate) fn client(&self) -> RawClient {
        RawClient::connect(&self.address)
    }

    /// Waits until the server has stopped.
    pub(crate) fn join(&self) {
        self.end.recv_timeout(PATIENCE).unwrap();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.try_recv().is_ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(format!("{}.lock", path.display()));
        }
    }
}

/// A blocking TCP socket that speaks the scheme `none`.
pub(crate) struct RawClient(pub(crate) TcpStream);

impl RawClient {
    pub(crate) fn connect(address: &Address) -> Self {
        let stream = TcpStream::connect(address.to_string()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send_frame(&self, message: &[u8]) {
        (&self.0).write_all(&frame(message)).unwrap();
    }

    /// Reads the next frame.
    pub(crate) fn try_read_frame(&self) -> io::Result<Vec<u8>> {
        let mut header = [0; 4];
        (&self.0).read_exact(&mut header)?;
        let mut body = vec![0; u32::from_be_bytes(header) as usize];
        (&self.0).read_exact(&mut body)?;
        Ok(body)
    }

    pub(crate) fn read_frame(&self) -> Vec<u8> {
        self.try_read_frame().unwrap()
    }

    /// Sends a message and reads its echo.
    pub(crate) fn request(&self, message: &[u8]) {
        self.send_frame(message);
        assert_eq!(self.read_frame(), message);
    }

    /// Whether the server closes the connection without sending anything more.
    pub(crate) fn is_closed(&self) -> bool {
        match (&self.0).read(&mut [0; 1]) {
            Ok(n) => n == 0,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                true
            }
        }
    }
}
