//! Stops of the server: idle, under load, with an answer pending, with a stuck peer.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::task::Waker;

use countersign::{CloseReason, Error, Instant as Moment};
use countersign_driver::StreamService;

use super::*;

/// Longer than a stopping connection must be quiet before it is closed.
const SLOW: Duration = Duration::from_millis(250);

#[test]
fn server_with_idle_connection_stops_soon() {
    for runtime in Runtime::ALL {
        let sessions = Kind::None.sessions(Role::Server);
        let services = echo();
        let server =
            Running::start_at(runtime, &tcp(), sessions, Arc::new(NO_KEY), services, options());
        let client = server.client();
        client.request(b"hello");
        server.handle.stop();
        assert!(client.is_closed());
        drop(client);
        server.join();
    }
}

#[test]
fn server_without_connections_stops_at_once() {
    for before in [true, false] {
        let listeners = tcp().listen(1).unwrap();
        let address = listeners[0].address().unwrap();
        let protocol = Arc::new(Kind::None.sessions(Role::Server));
        let server = Server::new(listeners, protocol, Arc::new(NO_KEY), options()).unwrap();
        let handle = server.handle();
        if before {
            handle.stop();
        }
        run(future::zip(server.run_with(echo()), async { handle.stop() }));
        assert!(TcpStream::connect(address.to_string()).is_err());
    }
}

/// Echoes; blocks the thread on the messages `hold` and `slow`.
struct BlockingEcho(Arc<Hold>);

struct Hold {
    held: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl StreamService for BlockingEcho {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        match chunk.bytes {
            b"hold" => {
                let _ = self.0.held.send(());
                let _ = self.0.go.lock().unwrap().recv();
            }
            b"slow" => thread::sleep(SLOW),
            _ => {}
        }
        send_back(chunk, out)
    }
}

#[test]
fn stop_answers_requests_not_yet_read() {
    const CLIENTS: usize = 300;
    for runtime in Runtime::ALL {
        let (held, is_held) = channel();
        let (go, proceed) = channel();
        let hold = Arc::new(Hold { held, go: Mutex::new(proceed) });
        let services = Streams(move |_: ConnectionHandle| BlockingEcho(hold.clone()));
        let sessions = Kind::None.sessions(Role::Server);
        let server =
            Running::start_at(runtime, &tcp(), sessions, Arc::new(NO_KEY), services, options());
        let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
        clients.iter().for_each(|client| client.request(b"first"));

        let (holder, others) = clients.split_first().unwrap();
        holder.send_frame(b"hold");
        is_held.recv().unwrap();
        // When `slow` is answered, a server that does not look for new data first would take the other
        // connections for quiet and close them.
        let (slow, others) = others.split_first().unwrap();
        slow.send_frame(b"slow");
        // More than one poll answers.
        let again = bytes(100_000);
        others.iter().for_each(|client| {
            client.send_frame(b"again");
            client.send_frame(&again);
        });
        server.handle.stop();
        go.send(()).unwrap();

        assert_eq!(holder.read_frame(), b"hold");
        assert_eq!(slow.read_frame(), b"slow");
        let answered = others.iter().filter(|client| {
            client.try_read_frame().is_ok_and(|answer| answer == b"again")
                && client.try_read_frame().is_ok_and(|answer| answer == again)
        });
        assert_eq!(answered.count(), others.len());
        assert!(clients.iter().all(RawClient::is_closed));
        drop(clients);
        server.join();
    }
}

/// Answers when it is woken and the answer is ready. A stop wakes it too.
struct DeferredAnswer {
    waker: Waker,
    out: Sender<Waker>,
    ready: Arc<AtomicBool>,
    asked: bool,
}

impl StreamService for DeferredAnswer {
    fn on_chunk(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Moment) -> Flow {
        self.asked = true;
        self.out.send(self.waker.clone()).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Moment) {
        if self.asked && self.ready.load(Ordering::SeqCst) {
            self.asked = false;
            out.send(b"an answer").unwrap();
        }
    }

    fn is_idle(&self) -> bool {
        !self.asked
    }
}

#[test]
fn stop_waits_for_answer_of_another_thread() {
    let (out, wakers) = channel();
    let ready = Arc::new(AtomicBool::new(false));
    let ready_service = ready.clone();
    let services = Streams(move |connection: ConnectionHandle| {
        let (out, ready) = (out.clone(), ready_service.clone());
        DeferredAnswer { waker: connection.waker(), out, ready, asked: false }
    });
    let server = Running::start(services, options());
    let client = server.client();
    client.send_frame(b"hello");
    let waker: Waker = wakers.recv().unwrap();
    server.handle.stop();
    wait_until("the server still accepts", || {
        TcpStream::connect(server.address.to_string()).is_err()
    });
    // An idle connection would be closed within this time.
    client.0.set_read_timeout(Some(SLOW)).unwrap();
    assert_eq!(client.try_read_frame().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    client.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!server.is_over());
    ready.store(true, Ordering::SeqCst);
    waker.wake();
    assert_eq!(client.read_frame(), b"an answer");
    assert!(client.is_closed());
    drop(client);
    server.join();
}

/// Echoes, is never idle, and reports the result of its connection.
struct NeverIdle(Sender<Result<(), Error>>);

impl StreamService for NeverIdle {
    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        send_back(chunk, out)
    }

    fn is_idle(&self) -> bool {
        false
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.send(why).unwrap();
    }
}

#[test]
fn connection_in_progress_is_abandoned_at_stop_timeout() {
    for runtime in Runtime::ALL {
        let (ended, how) = channel();
        let mut options = options();
        options.stop_timeout = SLOW;
        let services = Streams(move |_: ConnectionHandle| NeverIdle(ended.clone()));
        let sessions = Kind::None.sessions(Role::Server);
        let server =
            Running::start_at(runtime, &tcp(), sessions, Arc::new(NO_KEY), services, options);
        // The service of the first is not idle; the second does not read.
        let (client, stuck) = (server.client(), server.client());
        client.request(b"hello");
        stuck.0.set_nonblocking(true).unwrap();
        let many = frame(&[7; 1_000]).repeat(100);
        let (mut at, mut full) = (0, None);
        wait_until("the server never stops reading", || match (&stuck.0).write(&many[at..]) {
            Ok(n) => {
                at = (at + n) % many.len();
                full = None;
                false
            }
            // The server has not read for a while.
            Err(_) => full.get_or_insert_with(Instant::now).elapsed() > SLOW,
        });
        let begun = Instant::now();
        server.handle.stop();
        server.join();
        assert!(begun.elapsed() >= SLOW);
        let shutdown = Err(Error::Aborted(CloseReason::Shutdown));
        assert_eq!(how.try_iter().collect::<Vec<_>>(), [shutdown, shutdown]);
        assert!(client.is_closed());
    }
}
