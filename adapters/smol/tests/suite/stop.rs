//! Stops: in order, under load, and of those who do not listen.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::task::Waker;

use countersign::{CloseReason, Error, Instant as Moment};
use countersign_driver::StreamService;

use super::*;

/// Longer than the quiet time of a connection that is to stop.
const SLOW: Duration = Duration::from_millis(250);

#[test]
fn a_server_whose_connections_are_idle_stops_soon() {
    for on in On::ALL {
        let sessions = Kind::None.sessions(Role::Server);
        let services = echo();
        let server = Running::start_at(on, &tcp(), sessions, Arc::new(NO_KEY), services, options());
        let client = server.client();
        client.ask(b"hello");
        server.handle.stop();
        assert!(client.is_closed());
        drop(client);
        server.join();
    }
}

#[test]
fn a_server_without_connections_stops_at_once_even_before_it_runs() {
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

/// Sends every message back, and holds the thread up when told to.
struct Holding(Arc<Hold>);

struct Hold {
    held: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl StreamService for Holding {
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
fn a_stop_answers_requests_that_the_server_has_not_seen() {
    const CLIENTS: usize = 300;
    for on in On::ALL {
        let (held, is_held) = channel();
        let (go, told) = channel();
        let hold = Arc::new(Hold { held, go: Mutex::new(told) });
        let services = Streams(move |_: ConnectionHandle| Holding(hold.clone()));
        let sessions = Kind::None.sessions(Role::Server);
        let server = Running::start_at(on, &tcp(), sessions, Arc::new(NO_KEY), services, options());
        let clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
        clients.iter().for_each(|client| client.ask(b"first"));

        let (holder, others) = clients.split_first().unwrap();
        holder.say(b"hold");
        is_held.recv().unwrap();
        // When it is through, those of which the server has not learnt would seem to have been quiet for
        // long enough.
        let (slow, others) = others.split_first().unwrap();
        slow.say(b"slow");
        // Some more than one turn answers.
        let again = bytes(100_000);
        others.iter().for_each(|client| {
            client.say(b"again");
            client.say(&again);
        });
        server.handle.stop();
        go.send(()).unwrap();

        assert_eq!(holder.hear(), b"hold");
        assert_eq!(slow.hear(), b"slow");
        let answered = others.iter().filter(|client| {
            client.try_hear().is_ok_and(|answer| answer == b"again")
                && client.try_hear().is_ok_and(|answer| answer == again)
        });
        assert_eq!(answered.count(), others.len());
        assert!(clients.iter().all(Raw::is_closed));
        drop(clients);
        server.join();
    }
}

/// Answers when it is woken and the answer is there: to be told to stop is to be woken too.
struct Thinking {
    waker: Waker,
    out: Sender<Waker>,
    thought: Arc<AtomicBool>,
    asked: bool,
}

impl StreamService for Thinking {
    fn on_chunk(&mut self, _: Chunk<'_>, _: &mut Outbox<'_>, _: Moment) -> Flow {
        self.asked = true;
        self.out.send(self.waker.clone()).unwrap();
        Flow::Consumed
    }

    fn on_wake(&mut self, out: &mut Outbox<'_>, _: Moment) {
        if self.asked && self.thought.load(Ordering::SeqCst) {
            self.asked = false;
            out.send(b"an answer").unwrap();
        }
    }

    fn is_idle(&self) -> bool {
        !self.asked
    }
}

#[test]
fn a_stop_accepts_nobody_and_waits_for_an_answer_that_another_thread_gives() {
    let (out, wakers) = channel();
    let thought = Arc::new(AtomicBool::new(false));
    let thinking = thought.clone();
    let services = Streams(move |connection: ConnectionHandle| {
        let (out, thought) = (out.clone(), thinking.clone());
        Thinking { waker: connection.waker(), out, thought, asked: false }
    });
    let server = Running::start(services, options());
    let client = server.client();
    client.say(b"hello");
    let waker: Waker = wakers.recv().unwrap();
    server.handle.stop();
    until("goes on accepting", || TcpStream::connect(server.address.to_string()).is_err());
    // For as long as an idle connection would be closed in.
    client.0.set_read_timeout(Some(SLOW)).unwrap();
    assert_eq!(client.try_hear().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    client.0.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!server.is_over());
    thought.store(true, Ordering::SeqCst);
    waker.wake();
    assert_eq!(client.hear(), b"an answer");
    assert!(client.is_closed());
    drop(client);
    server.join();
}

/// Owes an answer for ever, and says how it ended.
struct Owing(Sender<Result<(), Error>>);

impl StreamService for Owing {
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
fn who_is_stuck_is_given_up_at_the_stop_timeout() {
    for on in On::ALL {
        let (ended, how) = channel();
        let mut options = options();
        options.stop_timeout = SLOW;
        let services = Streams(move |_: ConnectionHandle| Owing(ended.clone()));
        let sessions = Kind::None.sessions(Role::Server);
        let server = Running::start_at(on, &tcp(), sessions, Arc::new(NO_KEY), services, options);
        // One to whom an answer is owed, one who reads none of its own.
        let (client, stuck) = (server.client(), server.client());
        client.ask(b"hello");
        stuck.0.set_nonblocking(true).unwrap();
        let many = frame(&[7; 1_000]).repeat(100);
        let (mut at, mut full) = (0, None);
        until("takes without end", || match (&stuck.0).write(&many[at..]) {
            Ok(n) => {
                at = (at + n) % many.len();
                full = None;
                false
            }
            // And has not for a while.
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
