//! The async link and client: in memory and virtual time, over pipes that split the stream anywhere, and
//! over TCP sockets.

#![cfg(test)]

#[path = "../support/echo_server.rs"]
mod echo_server;
mod sockets;
mod world;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use countersign::Role;
use countersign_embedded_io::asynchronous::{Client, Link};
use countersign_embedded_io::services::Echo;
use countersign_embedded_io::{
    Alert, BufferError, Buffers, Chunk, CloseReason, Config, ConnectionError, Digest, Error,
    Failure, Flow, Instant, Key, MessageService, Multiprocessing, Mutual, Nonce, Outbox, ProcessId,
    Reassembler, Remaining, Scheme, SendError, ServiceConnection, ServiceError, Session,
    SliceBuffer, StreamService, TimedOut, Truncated,
};
use embedded_hal_async::delay::DelayNs;

use world::{Broken, End, Pipe, World, cancel_after};

/// Length of the buffers for messages, in bytes.
const BUFFER: usize = 512;
const SECRET: &[u8] = b"a secret that both ends have";

type Memory = Box<[u8]>;
type PipeLink<C> = Link<Pipe, Pipe, C, World, 16>;

fn buffers() -> Buffers<Memory> {
    let memory = |len| vec![0; len].into();
    Buffers { handshake: memory(1024), receive: memory(BUFFER), send: memory(BUFFER) }
}

/// A session of `scheme`, with its own nonce.
fn session(scheme: Scheme, role: Role, world: &World) -> Session<Memory> {
    let byte = role as u8;
    let process = ProcessId::from_bytes(&[byte; ProcessId::LEN]);
    let config = Config::new(scheme).with_process_id(process);
    let make = match role {
        Role::Client => Session::client,
        Role::Server => Session::server,
    };
    make(&config, Nonce::from_bytes([byte; Nonce::LEN]), buffers(), world.now()).unwrap()
}

/// `mutual` with a heartbeat of 1 s.
fn mutual(role: Role) -> Scheme {
    let name = if role == Role::Client { "client" } else { "server" };
    // `session` replaces it.
    let process = ProcessId::from_bytes(&[7; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), process);
    Scheme::Mutual(mutual.with_heartbeat(Duration::from_secs(1)))
}

/// The name of a scheme, the scheme of either end, and the key.
type SchemeCase = (&'static str, fn(Role) -> Scheme, Option<Key>);

fn schemes() -> Vec<SchemeCase> {
    vec![
        ("mutual", mutual, Some(Key::mutual(SECRET).unwrap())),
        ("none", |_| Scheme::None, None),
        (
            "challenge",
            |_| Scheme::Challenge { digest: Digest::Sha256 },
            Some(Key::challenge(Digest::Sha256, SECRET).unwrap()),
        ),
        (
            "multiprocessing",
            |_| Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256)),
            Some(Key::challenge(Digest::Sha256, SECRET).unwrap()),
        ),
    ]
}

fn link(end: End, world: &World) -> PipeLink<impl Fn() -> Instant + use<>> {
    Link::new(end.input, end.output, world.clock(), world.clone()).with_shut(Pipe::shut)
}

/// Runs `service` at the server's end.
async fn serve<S: StreamService>(
    end: End,
    world: &World,
    scheme: Scheme,
    key: Option<Key>,
    service: S,
) -> (Result<(), Failure<Broken>>, S) {
    let mut session = session(scheme, Role::Server, world);
    let mut connection = ServiceConnection::new(&mut session, service);
    let result = link(end, world).run(&mut connection, &key).await;
    (result, connection.into_service())
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

/// Memory for a message and for queued replies, `len` bytes each.
fn memory(len: usize) -> [Vec<u8>; 2] {
    [vec![0; len], vec![0; len]]
}

/// Sends whole messages back.
fn echo(memory: &mut [Vec<u8>; 2]) -> MessageService<Echo, SliceBuffer<'_>> {
    let [incoming, outgoing] = memory.each_mut().map(|memory| SliceBuffer::new(memory));
    MessageService::new(Echo, incoming, outgoing)
}

/// Receives `len` bytes: a byte stream has no messages.
async fn recv_bytes<D: DelayNs, C: Fn() -> Instant>(
    client: &mut Client<Pipe, Pipe, C, D, &mut Session<Memory>, 16>,
    len: usize,
) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        all.extend_from_slice(client.recv_chunk().await.unwrap().unwrap().bytes);
    }
    all
}

const LENGTHS: [usize; 9] = [1, 0, 15, 16, 17, 400, 511, 513, 3000];

#[test]
fn messages_of_any_length_survive_any_segmentation() {
    for seed in 0..40 {
        for (name, scheme, key) in schemes() {
            let world = World::new(seed);
            let (here, there) = world.pair(200);
            let mut memory = memory(4000);
            let server = serve(there, &world, scheme(Role::Server), key.clone(), echo(&mut memory));
            let client = async {
                let mut session = session(scheme(Role::Client), Role::Client, &world);
                let link = link(here, &world);
                let mut client = Client::connect(link, &mut session, &key).await.unwrap();
                for len in LENGTHS {
                    // The server echoes a byte stream chunk by chunk: a long one would fill the pipes.
                    let len = if name == "challenge" { len.min(BUFFER) } else { len };
                    let sent = message(len);
                    client.send(&sent).await.unwrap();
                    let got = recv_bytes(&mut client, len).await;
                    assert_eq!(got, sent, "{name}");
                    if len == 0 && name != "challenge" {
                        assert!(client.recv_chunk().await.unwrap().unwrap().bytes.is_empty());
                    }
                }
                client.finish().await.unwrap();
                client.finish().await.unwrap();
                assert_eq!(
                    client.send(b"x").await,
                    Err(ConnectionError::Send(SendError::Finished))
                );
                assert!(client.recv_chunk().await.unwrap().is_none());
                client.close().await.unwrap();
                client.finish().await.unwrap();
                client.close().await.unwrap();
                assert_eq!(
                    client.send(b"x").await,
                    Err(ConnectionError::Send(SendError::Finished))
                );
            };
            let (client, server) = world.run(client, server);
            assert!(client.is_some(), "{name} {seed}");
            assert_eq!(server.map(|(result, _)| result), Some(Ok(())), "{name} {seed}");
        }
    }
}

/// Runs a conversation in which each call is dropped after `waits` waits and repeated; with `once`, only one
/// call is dropped. Returns the received messages and the number of dropped calls.
fn conversation(seed: u64, waits: usize, once: bool) -> (Vec<Vec<u8>>, usize) {
    let world = World::new(seed);
    let (here, there) = world.pair(64);
    let key = Some(Key::mutual(SECRET).unwrap());
    let dropped = Cell::new(0);
    let left = Cell::new(waits);
    let count_drop = || {
        dropped.set(dropped.get() + 1);
        left.set(if once { usize::MAX } else { waits });
    };
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut buffer = [0; 2000];
        let mut messages = Vec::new();
        for len in [5, 2000, 0, 700, 300] {
            let sent = message(len);
            let mut received = Reassembler::new(SliceBuffer::new(&mut buffer));
            if len == 300 {
                let got = loop {
                    match cancel_after(&left, client.request(&sent, &mut received)).await {
                        Some(got) => break got.unwrap().to_vec(),
                        None => count_drop(),
                    }
                };
                messages.push(got);
                continue;
            }
            while cancel_after(&left, client.send(&sent)).await.map(Result::unwrap).is_none() {
                count_drop();
            }
            if len == 700 {
                while cancel_after(&left, client.flush()).await.map(Result::unwrap).is_none() {
                    count_drop();
                }
            }
            let got = loop {
                match cancel_after(&left, client.recv(&mut received)).await {
                    Some(got) => break got.unwrap().map(<[u8]>::to_vec),
                    None => count_drop(),
                }
            };
            messages.push(got.unwrap());
        }
        client.finish().await.unwrap();
        while cancel_after(&left, client.close()).await.map(Result::unwrap).is_none() {
            count_drop();
        }
        messages
    };
    // `Link::run` of the server is dropped and repeated too.
    let server = async {
        let mut session = session(mutual(Role::Server), Role::Server, &world);
        let mut memory = memory(3000);
        let mut connection = ServiceConnection::new(&mut session, echo(&mut memory));
        let mut link = link(there, &world);
        loop {
            match cancel_after(&left, link.run(&mut connection, &key)).await {
                Some(result) => break result.unwrap(),
                None => count_drop(),
            }
        }
    };
    let (client, server) = world.run(client, server);
    server.unwrap();
    (client.unwrap(), dropped.get())
}

#[test]
fn dropped_calls_lose_nothing() {
    let whole: Vec<_> = [5, 2000, 0, 700, 300].map(message).into();
    let mut total = 0;
    // Drop one call at each wait in turn, until the conversation ends before it.
    for waits in 0.. {
        let (messages, dropped) = conversation(1, waits, true);
        assert!(messages == whole, "dropped at wait {waits}");
        if dropped == 0 {
            total = waits;
            break;
        }
    }
    assert!(total > 300, "{total}");
    // Drop every call after some waits.
    for seed in 0..30 {
        for waits in 0..8 {
            let (messages, dropped) = conversation(seed, waits, false);
            assert!(messages == whole, "seed {seed}, dropped after {waits} waits");
            assert!(dropped > 10);
        }
    }
}

#[test]
fn awaited_idle_connection_keeps_its_heartbeats() {
    let world = World::new(3);
    let (here, there) = world.pair(200);
    let key = Some(Key::mutual(SECRET).unwrap());
    let server = serve(there, &world, mutual(Role::Server), key.clone(), Echo);
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut hour = world.clone();
        let mut hour = pin!(hour.delay_us(3_600_000_000));
        // Ends after an hour or when a chunk arrives.
        let received = {
            let mut recv = pin!(client.recv_chunk());
            poll_fn(|context| match hour.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => recv.as_mut().poll(context).map(|chunk| Some(chunk.is_ok())),
            })
            .await
        };
        assert_eq!(received, None);
        client.send(b"still there").await.unwrap();
        assert_eq!(client.recv_chunk().await.unwrap().unwrap().bytes, b"still there");
        client.close().await.unwrap();
    };
    let (client, server) = world.run(client, server);
    assert!(client.is_some() && server.unwrap().0.is_ok());
    assert!(world.now() >= Instant::from_micros(3_600_000_000));
}

/// Applies `fault` to the pipes of a client. Returns the error of its calls, and the
/// milliseconds until the first one fails.
fn error_after(
    fault: impl Fn(&Pipe, &Pipe),
    scheme: fn(Role) -> Scheme,
) -> (ConnectionError<Broken>, u64) {
    let world = World::new(5);
    let (here, there) = world.pair(200);
    let (input, output) = (here.input.clone(), here.output.clone());
    let key = Some(Key::mutual(SECRET).unwrap());
    // The server is not polled any more after its first reply.
    let stop = Cell::new(false);
    let server = async {
        let mut serve = pin!(serve(there, &world, scheme(Role::Server), key.clone(), Echo));
        poll_fn(|context| match stop.get() {
            true => Poll::Ready(()),
            false => serve.as_mut().poll(context).map(drop),
        })
        .await;
    };
    let client = async {
        let mut session = session(scheme(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        client.send(b"hello").await.unwrap();
        assert_eq!(client.recv_chunk().await.unwrap().unwrap().bytes, b"hello");
        stop.set(true);
        fault(&input, &output);
        let before = world.now();
        let error = loop {
            match client.recv_chunk().await {
                Err(error) => break error,
                Ok(chunk) => assert!(chunk.is_some(), "the stream ended in order"),
            }
        };
        let took = world.now().saturating_duration_since(before).as_millis() as u64;
        // Later calls fail with the same error.
        let lost = Error::Transport;
        let then = match error {
            ConnectionError::Io(_) => ConnectionError::Protocol(lost),
            other => other,
        };
        assert_eq!(client.recv_chunk().await.err(), Some(then));
        assert_eq!(client.send(b"x").await.err(), Some(then));
        assert_eq!(client.flush().await.err(), Some(then));
        assert_eq!(client.close().await.err(), Some(then));
        (error, took)
    };
    world.run(client, server).0.unwrap()
}

#[test]
fn silent_peer_times_out_after_two_heartbeats_and_5_s() {
    let (error, took) = error_after(|_, _| {}, mutual);
    assert_eq!(error, ConnectionError::Protocol(Error::TimedOut(TimedOut::Peer)));
    assert_eq!(took, 7_000);
}

#[test]
fn end_of_transport_is_a_truncation() {
    let (error, _) = error_after(|input, _| input.truncate(), mutual);
    assert_eq!(error, ConnectionError::Protocol(Error::Truncated(Truncated::Stream)));
}

#[test]
fn broken_transport_is_an_io_error() {
    for broken in 0..3 {
        let (error, _) = error_after(
            |input, output| {
                if broken != 0 {
                    input.break_down();
                }
                if broken != 1 {
                    output.break_down();
                }
            },
            mutual,
        );
        assert_eq!(error, ConnectionError::Io(Broken));
    }
}

#[test]
fn wrong_key_fails_both_ends() {
    let world = World::new(9);
    let (here, there) = world.pair(200);
    let right = Some(Key::mutual(SECRET).unwrap());
    let wrong = Some(Key::mutual(b"another secret, 16 bytes or more").unwrap());
    let server = serve(there, &world, mutual(Role::Server), right, Echo);
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        Client::connect(link(here, &world), &mut session, &wrong).await.map(drop)
    };
    let (client, server) = world.run(client, server);
    let alert = Error::Alert(Alert::Refused);
    assert_eq!(client.unwrap(), Err(ConnectionError::Protocol(alert)));
    assert_eq!(server.unwrap().0, Err(Failure::Protocol(Error::WrongKey)));
}

#[test]
fn unread_messages_block_the_sender_and_arrive() {
    let world = World::new(11);
    let (here, there) = world.pair(100);
    let up = here.output.clone();
    let key = Some(Key::mutual(SECRET).unwrap());
    let server = serve(there, &world, mutual(Role::Server), key.clone(), Echo);
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut sent = 0;
        // The client does not receive: its messages fill all buffers and pipes, and then the call waits.
        while let Some(taken) = cancel_after(&Cell::new(100), client.send(&message(100))).await {
            taken.unwrap();
            sent += 1;
            assert!(sent < 60, "more than all buffers hold");
        }
        assert!(sent > 10, "{sent}");
        assert!(up.len() <= 100);
        for _ in 0..sent {
            assert_eq!(client.recv_chunk().await.unwrap().unwrap().bytes, message(100));
        }
        client.close().await.unwrap();
    };
    let (client, server) = world.run(client, server);
    assert!(client.is_some());
    assert_eq!(server.unwrap().0, Ok(()));
}

/// Counts received bytes and records the result; sends nothing.
#[derive(Default)]
struct Recorder {
    bytes: usize,
    closed: Option<Result<(), Error>>,
}

impl StreamService for Recorder {
    fn on_chunk(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.bytes += chunk.bytes.len();
        Flow::Consumed
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.closed = Some(why);
    }
}

#[test]
fn bytes_received_before_a_write_error_are_delivered() {
    let world = World::new(13);
    let (here, there) = world.pair(4000);
    let mut session = session(Scheme::None, Role::Server, &world);
    let mut connection = ServiceConnection::new(&mut session, Hello::default());
    let mut far = there;
    let test = async {
        use embedded_io_async::Write as _;
        for _ in 0..30 {
            far.output.write_all(&[0, 0, 0, 3, b'a', b'b', b'c']).await.unwrap();
        }
        here.output.break_down();
        let mut link = link(here, &world);
        link.run(&mut connection, &None::<Key>).await
    };
    let (result, _) = world.run(test, async {});
    assert_eq!(result, Some(Err(Failure::Io(Broken))));
    let recorder = connection.into_service().0;
    assert_eq!((recorder.bytes, recorder.closed), (90, Some(Err(Error::Transport))));
}

/// A [`Recorder`] that sends a greeting.
#[derive(Default)]
struct Hello(Recorder);

impl StreamService for Hello {
    fn on_open(&mut self, _: &countersign::Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        out.send(b"hello").unwrap();
    }

    fn on_chunk(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.0.on_chunk(chunk, out, now)
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.on_closed(why);
    }
}

/// A transport with endless input.
struct Flood;

impl embedded_io::ErrorType for Flood {
    type Error = Broken;
}

impl embedded_io_async::Read for Flood {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, Broken> {
        buf.fill(0);
        Ok(buf.len())
    }
}

impl embedded_io_async::Write for Flood {
    async fn write(&mut self, _: &[u8]) -> Result<usize, Broken> {
        pending().await
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }
}

#[test]
fn flood_yields_to_other_tasks() {
    let world = World::new(17);
    let mut session = session(Scheme::None, Role::Server, &world);
    let mut connection = ServiceConnection::new(&mut session, Recorder::default());
    let mut link: Link<_, _, _, _, 64> = Link::new(Flood, Flood, world.clock(), world.clone());
    {
        let mut run = pin!(link.run(&mut connection, &None::<Key>));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..100 {
            assert!(run.as_mut().poll(&mut context).is_pending());
        }
    }
    assert_eq!(connection.driver().error(), None);
}

#[test]
fn too_long_message_can_be_taken_in_chunks() {
    let world = World::new(19);
    let (here, there) = world.pair(200);
    let key = Some(Key::mutual(SECRET).unwrap());
    let mut memory = memory(10_000);
    let server = serve(there, &world, mutual(Role::Server), key.clone(), echo(&mut memory));
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        client.send(&message(1000)).await.unwrap();
        let mut buffer = [0; 600];
        let mut received = Reassembler::new(SliceBuffer::new(&mut buffer));
        assert_eq!(
            client.recv(&mut received).await,
            Err(ConnectionError::Buffer(BufferError::TooLong { max: 600 }))
        );
        let mut all = received.bytes().to_vec();
        assert!(!received.is_complete());
        while all.len() < 1000 {
            all.extend_from_slice(client.recv_chunk().await.unwrap().unwrap().bytes);
        }
        assert_eq!(all, message(1000));
        received.clear();
        // While a message is partly sent, a send of another one fails.
        let none = cancel_after(&Cell::new(0), client.send(&message(9000))).await;
        assert!(none.is_none());
        let other = client.send(b"other").await;
        assert!(matches!(other, Err(ConnectionError::Send(SendError::LengthMismatch { .. }))));
        let other = client.send_chunk(b"other", Remaining::End).await;
        assert!(matches!(other, Err(ConnectionError::Send(SendError::LengthMismatch { .. }))));
        client.close().await.ok();
    };
    let (client, server) = world.run(client, server);
    assert!(client.is_some() && server.is_some());
}

#[test]
fn reply_to_a_dropped_request_is_not_returned_to_the_next() {
    let world = World::new(23);
    let (here, there) = world.pair(200);
    let key = Some(Key::mutual(SECRET).unwrap());
    let mut memory = memory(1000);
    let server = serve(there, &world, mutual(Role::Server), key.clone(), echo(&mut memory));
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut buffer = [0; 600];
        let mut reply = Reassembler::new(SliceBuffer::new(&mut buffer));
        // The request is sent, and dropped before the reply.
        assert!(cancel_after(&Cell::new(0), client.request(b"first", &mut reply)).await.is_none());
        let mismatch = ConnectionError::Send(SendError::LengthMismatch { due: 0 });
        assert_eq!(client.request(b"another", &mut reply).await, Err(mismatch));
        assert_eq!(client.recv(&mut reply).await.unwrap(), Some(&b"first"[..]));
        assert_eq!(client.request(b"another", &mut reply).await.unwrap(), b"another");
        client.close().await.unwrap();
    };
    let (client, server) = world.run(client, server);
    assert!(client.is_some());
    assert_eq!(server.unwrap().0, Ok(()));
}

#[test]
fn message_longer_than_the_lent_buffer_ends_the_connection() {
    let world = World::new(29);
    let (here, there) = world.pair(200);
    let key = Some(Key::mutual(SECRET).unwrap());
    let mut memory = memory(600);
    let server = serve(there, &world, mutual(Role::Server), key.clone(), echo(&mut memory));
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        client.send(&message(601)).await.unwrap();
        client.recv_chunk().await.map(drop)
    };
    let (client, server) = world.run(client, server);
    let closed = Error::PeerClosed(CloseReason::Protocol);
    assert_eq!(client, Some(Err(ConnectionError::Protocol(closed))));
    let (result, service) = server.unwrap();
    assert_eq!(result, Err(Failure::Protocol(Error::Aborted(CloseReason::Protocol))));
    assert_eq!(service.error(), Some(ServiceError::MessageTooLong { max: 600 }));
}

#[test]
fn flush_error_ends_the_service_of_an_async_link() {
    use embedded_io_async::Write as _;
    // While the connection is open, and after the session has ended in order.
    for eof in [false, true] {
        let world = World::new(31);
        let (here, mut there) = world.pair(200);
        here.output.fail_flushes();
        let mut session = session(Scheme::None, Role::Server, &world);
        let mut connection = ServiceConnection::new(&mut session, Echo);
        let test = async {
            there.output.write_all(&[0, 0, 0, 2, b'h', b'i']).await.unwrap();
            if eof {
                there.output.truncate();
            }
            link(here, &world).run(&mut connection, &None::<Key>).await
        };
        assert_eq!(world.run(test, async {}).0, Some(Err(Failure::Io(Broken))), "{eof}");
        assert_eq!(there.input.len(), 6);
    }
}

#[test]
fn flush_error_is_reported_by_async_calls() {
    for call in 0..4 {
        let world = World::new(37);
        let (here, _there) = world.pair(200);
        let output = here.output.clone();
        let mut session = session(Scheme::None, Role::Client, &world);
        let test = async {
            let mut client =
                Client::connect(link(here, &world), &mut session, &None::<Key>).await.unwrap();
            client.send(b"1").await.unwrap();
            client.flush().await.unwrap();
            output.fail_flushes();
            client.send(b"2").await.unwrap();
            let result = match call {
                0 => client.flush().await,
                1 => client.finish().await,
                2 => client.recv_chunk().await.map(drop),
                _ => client.close().await,
            };
            assert_eq!(result, Err(ConnectionError::Io(Broken)), "{call}");
            let lost = ConnectionError::Protocol(Error::Transport);
            assert_eq!(client.flush().await, Err(lost));
        };
        assert!(world.run(test, async {}).0.is_some(), "{call}");
    }
}
