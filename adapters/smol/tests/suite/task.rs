//! The connection task: any service, in either role, over any stream.

use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};

use countersign::{CloseReason, Error, Instant as Moment, Peer};
use countersign_driver::services::{Echo, Upper};
use countersign_driver::{Failure, StreamService};
use countersign_host::ProtocolFactory;
use countersign_smol::{ConnectionTask, Socket, futures};

use super::*;

/// Sends one message and finishes when the answer arrives.
#[derive(Default)]
struct OneRequest {
    answer: Vec<u8>,
}

impl StreamService for OneRequest {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Moment) {
        out.send(b"hello").unwrap();
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        self.answer.extend_from_slice(chunk.bytes);
        out.finish();
        Flow::Consumed
    }
}

#[test]
fn task_drives_a_service_as_client() {
    for kind in Kind::ALL {
        for address in [tcp(), unix()] {
            let services = Streams(|_: ConnectionHandle| Upper);
            let (sessions, keys) = (kind.sessions(Role::Server), Arc::new(kind.key(SECRET)));
            let server = Running::start_at(
                Runtime::TwoThreads,
                &address,
                sessions,
                keys,
                services,
                options(),
            );
            let (service, result) = run(async {
                let socket = Socket::connect(&server.address, PATIENCE).await.unwrap();
                let task = ConnectionTask::from(socket);
                let protocol = kind.sessions(Role::Client).client(&task.waker().into(), task.now());
                task.drive(protocol.unwrap(), OneRequest::default(), &kind.key(SECRET)).await
            });
            result.unwrap();
            assert_eq!(service.answer, b"HELLO", "{kind:?}");
        }
    }
}

#[test]
fn task_drives_a_stream_of_another_crate() {
    for kind in Kind::ALL {
        run(async {
            let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let server_side = async {
                let task = ConnectionTask::new(listener.accept().await.unwrap().0);
                let protocol = kind.sessions(Role::Server).server(&task.waker().into(), task.now());
                task.drive(protocol.unwrap(), Echo, &kind.key(SECRET)).await.1
            };
            let client_side = async {
                let stream = smol::net::TcpStream::connect(at).await.unwrap();
                let connector = connector_over(kind.sessions(Role::Client), kind.key(SECRET));
                let client = futures::Connection::over(stream, &connector).await.unwrap();
                let message = bytes(1 << 20);
                let (sent, received) = future::zip(client.send(&message), client.recv()).await;
                sent.unwrap();
                assert!(received.unwrap().unwrap() == message);
                client.finish().await.unwrap();
                assert_eq!(client.recv().await.unwrap(), None);
            };
            future::zip(server_side, client_side).await.0.unwrap();
        });
    }
}

/// Reports the calls that the peer does not cause.
struct CallRecorder {
    out: Sender<&'static str>,
    due: Option<Moment>,
}

impl StreamService for CallRecorder {
    fn on_open(&mut self, _: &Peer<'_>, _: &mut Outbox<'_>, now: Moment) {
        self.due = Some(now.saturating_add(SHORT));
        self.out.send("open").unwrap();
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Moment) -> Flow {
        send_back(chunk, out)
    }

    fn on_wake(&mut self, _: &mut Outbox<'_>, _: Moment) {
        self.out.send("wake").unwrap();
    }

    fn poll_timeout(&self) -> Option<Moment> {
        self.due
    }

    fn on_timeout(&mut self, _: &mut Outbox<'_>, now: Moment) {
        assert!(self.due.take().is_some_and(|due| due <= now), "called before the deadline");
        self.out.send("timeout").unwrap();
    }

    fn on_closed(&mut self, _: Result<(), Error>) {
        self.out.send("closed").unwrap();
    }
}

#[test]
fn wakes_timeouts_and_stop_follow_the_driving_task() {
    let services = echo();
    let server = Running::start(services, options());
    let socket = run(Socket::connect(&server.address, PATIENCE)).unwrap();
    let task = ConnectionTask::from(socket);
    let protocol =
        Kind::None.sessions(Role::Client).client(&task.waker().into(), task.now()).unwrap();
    let (out, calls) = channel();
    let (waker, shutdown) = (task.waker(), task.shutdown_handle());
    let service = CallRecorder { out, due: None };
    let mut driving = Box::pin(async move { task.drive(protocol, service, &NO_KEY).await });
    // The first poll is from this thread; another one drives the task from then on.
    assert!(run(future::poll_once(driving.as_mut())).is_none());
    let driver = thread::spawn(move || run(driving));
    let next = || calls.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), "open");
    let begun = Instant::now();
    waker.wake_by_ref();
    assert_eq!(next(), "wake");
    assert!(begun.elapsed() < PATIENCE / 2);
    assert_eq!(next(), "timeout");
    waker.wake();
    assert_eq!(next(), "wake");
    shutdown.stop();
    let (_, result) = driver.join().unwrap();
    result.unwrap();
    assert_eq!(calls.try_iter().last(), Some("closed"));
}

#[test]
fn stopped_task_ends_without_the_peers_fin() {
    let (ours, _theirs) = pipe::pipe(pipe::PipeMode::Plain, 100);
    let task = ConnectionTask::new(ours);
    let protocol =
        Kind::None.sessions(Role::Server).server(&task.waker().into(), task.now()).unwrap();
    // A stop before `drive` takes effect as well.
    task.shutdown_handle().stop();
    let (_, result) = run(task.drive(protocol, Echo, &NO_KEY));
    let shutdown = Error::Aborted(CloseReason::Shutdown);
    assert!(matches!(result, Err(Failure::Protocol(error)) if error == shutdown), "{result:?}");
}

#[test]
fn write_of_zero_bytes_is_an_error() {
    /// Writes accept no bytes.
    struct Full;

    impl smol::io::AsyncRead for Full {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl smol::io::AsyncWrite for Full {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(0))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    let task = ConnectionTask::new(Full);
    let protocol =
        Kind::None.sessions(Role::Client).client(&task.waker().into(), task.now()).unwrap();
    let (_, result) = run(task.drive(protocol, OneRequest::default(), &NO_KEY));
    let zero = io::ErrorKind::WriteZero;
    assert!(matches!(&result, Err(Failure::Io(error)) if error.kind() == zero), "{result:?}");
}
