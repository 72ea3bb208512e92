//! Stops of the server: idle, under load, with an answer pending, with a partial message.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::task::Waker;

use super::*;

fn echo(options: ServerOptions) -> Running {
    Running::start(plain_server(options), |server| server.run_streams(|_| services::Echo))
}

#[test]
fn server_with_idle_connection_stops_soon() {
    let server = echo(ServerOptions::default());
    let stream = raw(&server.address);
    round_trip(&stream, b"hello");
    server.handle.stop();
    assert_eq!(read_all(&stream), b"");
    drop(stream);
    let address = server.address.clone();
    within_patience(|_| drop(server));
    assert!(TcpStream::connect(address.to_string()).is_err());
}

#[test]
fn server_stopped_before_it_runs_returns_at_once() {
    let mut server = plain_server(ServerOptions::default());
    let address = server.local_addresses().unwrap().remove(0);
    server.handle().stop();
    within_patience(|_| server.run(|_| services::Echo));
    assert!(server.accept().is_none());
    assert!(TcpStream::connect(address.to_string()).is_err());
}

#[test]
fn stop_answers_requests_that_have_arrived() {
    const CLIENTS: usize = 100;
    let server = echo(ServerOptions::default());
    let streams: Vec<_> = (0..CLIENTS).map(|_| raw(&server.address)).collect();
    streams.iter().for_each(|stream| round_trip(stream, b"first"));
    let long = bytes(100_000);
    for mut stream in &streams {
        stream.write_all(&[frame(b"again"), frame(&long)].concat()).unwrap();
    }
    server.handle.stop();
    for stream in &streams {
        assert_eq!(read_frame(stream), b"again");
        assert!(read_frame(stream) == long);
        assert_eq!(read_all(stream), b"");
    }
}

/// Answers when it is woken and the answer is ready. A stop wakes it too.
struct Thinks {
    waker: Waker,
    out: Sender<Waker>,
    thought: Arc<AtomicBool>,
    asked: bool,
}

impl Service for Thinks {
    fn on_message(&mut self, _: &[u8], _: &mut Context<'_>) -> Result<(), ServiceError> {
        self.asked = true;
        self.out.send(self.waker.clone()).unwrap();
        Ok(())
    }

    fn on_wake(&mut self, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        if self.asked && self.thought.load(Ordering::SeqCst) {
            self.asked = false;
            cx.send(b"thought")?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        !self.asked
    }
}

#[test]
fn stop_waits_for_answer_of_another_thread() {
    let (out, asked) = channel();
    let (out, thought) = (Mutex::new(out), Arc::new(AtomicBool::new(false)));
    let done = thought.clone();
    let server = Running::start(plain_server(ServerOptions::default()), |server| {
        server.run(move |handle| Thinks {
            waker: handle.waker(),
            out: out.lock().unwrap().clone(),
            thought: thought.clone(),
            asked: false,
        });
    });
    let mut stream = raw(&server.address);
    stream.write_all(&frame(b"a question")).unwrap();
    let waker = asked.recv_timeout(PATIENCE).unwrap();
    server.handle.stop();
    stream.set_read_timeout(Some(SHORT)).unwrap();
    assert!(try_read_frame(&stream).is_err());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    done.store(true, Ordering::SeqCst);
    waker.wake();
    assert_eq!(read_frame(&stream), b"thought");
    assert_eq!(read_all(&stream), b"");
}

#[test]
fn connection_in_progress_is_abandoned_at_stop_timeout() {
    let mut options = ServerOptions::default();
    options.stop_timeout = SHORT;
    let server = echo(options);
    let mut stream = raw(&server.address);
    round_trip(&stream, b"hello");
    stream.write_all(&frame(b"never whole")[..6]).unwrap();
    let begun = Instant::now();
    server.handle.stop();
    within_patience(|_| drop(server));
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(read_all(&stream), b"");
}
