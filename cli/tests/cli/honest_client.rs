//! An honest client beside a hostile one: the server must answer it without delay.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, ServerAddr};
use crate::peer::{Peer, PeerScheme};

/// The pause between two rounds of requests.
const PACE: Duration = Duration::from_millis(10);
/// The most that a round may take longer than on a machine without the attack. Shorter than any timeout
/// with which a hostile client could make the honest one wait.
const MAX_DELAY: Duration = Duration::from_secs(3);

/// A connection to a server that answers in capitals.
pub(crate) trait Conversation {
    /// Sends `message` and returns the reply.
    fn request(&mut self, message: &[u8]) -> Vec<u8>;
    /// Closes the connection in order; fails if the server does not.
    fn close(self);
}

impl Conversation for (Peer, PeerScheme) {
    fn request(&mut self, message: &[u8]) -> Vec<u8> {
        self.0.request(self.1, message)
    }

    fn close(self) {
        self.0.finish();
        assert!(self.0.read_to_end().is_empty());
    }
}

/// Measures how long the machine itself takes for a round, with an idle server in this process. A loaded
/// machine delays both servers alike.
struct Control {
    addr: SocketAddr,
}

impl Control {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                if byte == [0] {
                    break;
                }
                stream.write_all(&byte).unwrap();
            }
        });
        Self { addr }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn round(&self) -> Duration {
        let began = Instant::now();
        let mut stream = self.connect();
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut [0]).unwrap();
        began.elapsed()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Not `connect`: a second panic would abort the tests.
        if let Ok(mut stream) = TcpStream::connect(self.addr) {
            let _ = stream.write_all(&[0]);
        }
    }
}

/// The slowest round of the honest client, and of the control.
#[derive(Default)]
struct Slowest {
    rounds: u32,
    honest: Duration,
    control: Duration,
}

/// A client that sends requests on an old connection and on new ones until it is stopped.
pub(crate) struct HonestClient {
    stop: Sender<()>,
    thread: JoinHandle<Slowest>,
}

impl HonestClient {
    pub(crate) fn start(at: &ServerAddr, scheme: PeerScheme) -> Self {
        let at = at.clone();
        Self::start_with(move || (Peer::authenticated(&at, scheme), scheme))
    }

    /// A client that connects by `connect`. Returns after its first reply.
    pub(crate) fn start_with<T: Conversation + 'static>(
        connect: impl Fn() -> T + Send + 'static,
    ) -> Self {
        let (stop, stopped) = channel();
        let (ready, is_ready) = channel();
        let thread = thread::spawn(move || {
            let control = Control::start();
            let mut old = connect();
            assert_eq!(old.request(b"first"), b"FIRST");
            ready.send(()).unwrap();
            let mut slowest = Slowest::default();
            while stopped.recv_timeout(PACE) == Err(RecvTimeoutError::Timeout) {
                slowest.control = slowest.control.max(control.round());
                let began = Instant::now();
                assert_eq!(old.request(b"old"), b"OLD");
                let mut new = connect();
                assert_eq!(new.request(b"new"), b"NEW");
                new.close();
                slowest.honest = slowest.honest.max(began.elapsed());
                slowest.rounds += 1;
            }
            assert_eq!(old.request(b"last"), b"LAST");
            slowest
        });
        // If the thread panicked, `finish` reports it.
        let _ = is_ready.recv();
        Self { stop, thread }
    }

    /// Stops the client. Fails if a request failed or was delayed.
    pub(crate) fn finish(self) {
        // The receiver is gone if the thread panicked, which joining reports.
        let _ = self.stop.send(());
        let Slowest { rounds, honest, control } = self.thread.join().unwrap();
        // A round is a few exchanges, each of which a loaded machine delays.
        let limit = MAX_DELAY + 8 * control;
        assert!(honest < limit, "slowest of {rounds} rounds: {honest:?}, control: {control:?}");
    }
}
