//! The async link and client: both ends in memory, in virtual time, over pipes that split the stream
//! anywhere; and over real sockets.

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

use world::{Broken, End, Pipe, World, give_up};

/// Length of the buffers for messages, in bytes.
const BUFFER: usize = 512;
const SECRET: &[u8] = b"a secret that both ends have";

type Memory = Box<[u8]>;
type PipeLink<C> = Link<Pipe, Pipe, C, World, 16>;

fn buffers() -> Buffers<Memory> {
    let memory = |len| vec![0; len].into();
    Buffers { handshake: memory(1024), receive: memory(BUFFER), send: memory(BUFFER) }
}

/// One end of a session of `scheme`, with a nonce of its own.
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
    let how = link(end, world).run(&mut connection, &key).await;
    (how, connection.into_service())
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

/// Memory for a message and for queued replies, `len` bytes each.
fn memory(len: usize) -> [Vec<u8>; 2] {
    [vec![0; len], vec![0; len]]
}

/// Sends every message back when all of it has arrived.
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
                    // The server echoes a byte stream piece by piece: a long one would fill the line.
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
            assert_eq!(server.map(|(how, _)| how), Some(Ok(())), "{name} {seed}");
        }
    }
}

/// Runs a conversation in which a call is dropped after `patience` waits, and repeated; with `once`, only
/// one call is dropped. Returns the received messages and how many calls were dropped.
fn conversation(seed: u64, patience: usize, once: bool) -> (Vec<Vec<u8>>, usize) {
    let world = World::new(seed);
    let (here, there) = world.pair(64);
    let key = Some(Key::mutual(SECRET).unwrap());
    let dropped = Cell::new(0);
    let left = Cell::new(patience);
    let again = || {
        dropped.set(dropped.get() + 1);
        left.set(if once { usize::MAX } else { patience });
    };
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut buffer = [0; 2000];
        let mut came = Vec::new();
        for len in [5, 2000, 0, 700, 300] {
            let sent = message(len);
            let mut received = Reassembler::new(SliceBuffer::new(&mut buffer));
            if len == 300 {
                let got = loop {
                    match give_up(&left, client.request(&sent, &mut received)).await {
                        Some(got) => break got.unwrap().to_vec(),
                        None => again(),
                    }
                };
                came.push(got);
                continue;
            }
            while give_up(&left, client.send(&sent)).await.map(Result::unwrap).is_none() {
                again();
            }
            if len == 700 {
                while give_up(&left, client.flush()).await.map(Result::unwrap).is_none() {
                    again();
                }
            }
            let got = loop {
                match give_up(&left, client.recv(&mut received)).await {
                    Some(got) => break got.unwrap().map(<[u8]>::to_vec),
                    None => again(),
                }
            };
            came.push(got.unwrap());
        }
        client.finish().await.unwrap();
        while give_up(&left, client.close()).await.map(Result::unwrap).is_none() {
            again();
        }
        came
    };
    // The server's run is dropped as often.
    let server = async {
        let mut session = session(mutual(Role::Server), Role::Server, &world);
        let mut memory = memory(3000);
        let mut connection = ServiceConnection::new(&mut session, echo(&mut memory));
        let mut link = link(there, &world);
        loop {
            match give_up(&left, link.run(&mut connection, &key)).await {
                Some(how) => break how.unwrap(),
                None => again(),
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
    let mut waits = 0;
    // At each wait in succession, until a run ends before it.
    for patience in 0.. {
        let (came, dropped) = conversation(1, patience, true);
        assert!(came == whole, "dropped at wait {patience}");
        if dropped == 0 {
            waits = patience;
            break;
        }
    }
    assert!(waits > 300, "{waits}");
    // At every wait, after `patience` others.
    for seed in 0..30 {
        for patience in 0..8 {
            let (came, dropped) = conversation(seed, patience, false);
            assert!(came == whole, "seed {seed}, dropped at each wait {patience}");
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
        // Until the hour is over, or a chunk arrives.
        let came = {
            let mut recv = pin!(client.recv_chunk());
            poll_fn(|context| match hour.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => recv.as_mut().poll(context).map(|came| Some(came.is_ok())),
            })
            .await
        };
        assert_eq!(came, None);
        client.send(b"still there").await.unwrap();
        assert_eq!(client.recv_chunk().await.unwrap().unwrap().bytes, b"still there");
        client.close().await.unwrap();
    };
    let (client, server) = world.run(client, server);
    assert!(client.is_some() && server.unwrap().0.is_ok());
    assert!(world.now() >= Instant::from_micros(3_600_000_000));
}

/// The error of a client's call after `then` has happened to its line, and the milliseconds until then.
fn after(
    then: impl Fn(&Pipe, &Pipe),
    scheme: fn(Role) -> Scheme,
) -> (ConnectionError<Broken>, u64) {
    let world = World::new(5);
    let (here, there) = world.pair(200);
    let (input, output) = (here.input.clone(), here.output.clone());
    let key = Some(Key::mutual(SECRET).unwrap());
    // The server falls silent after its first reply.
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
        then(&input, &output);
        let before = world.now();
        let error = loop {
            match client.recv_chunk().await {
                Err(error) => break error,
                Ok(chunk) => assert!(chunk.is_some(), "no end in order"),
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
    let (error, took) = after(|_, _| {}, mutual);
    assert_eq!(error, ConnectionError::Protocol(Error::TimedOut(TimedOut::Peer)));
    assert_eq!(took, 7_000);
}

#[test]
fn cut_line_is_a_truncation() {
    let (error, _) = after(|input, _| input.cut(), mutual);
    assert_eq!(error, ConnectionError::Protocol(Error::Truncated(Truncated::Stream)));
}

#[test]
fn broken_line_is_an_io_error() {
    for broken in 0..3 {
        let (error, _) = after(
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
        // The client does not receive: its messages fill both ends and the line, and then the call waits.
        while let Some(taken) = give_up(&Cell::new(100), client.send(&message(100))).await {
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

/// Records the calls that it gets, and sends nothing.
#[derive(Default)]
struct Listener {
    bytes: usize,
    closed: Option<Result<(), Error>>,
}

impl StreamService for Listener {
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
    let (how, _) = world.run(test, async {});
    assert_eq!(how, Some(Err(Failure::Io(Broken))));
    let heard = connection.into_service().0;
    assert_eq!((heard.bytes, heard.closed), (90, Some(Err(Error::Transport))));
}

/// Sends a greeting, and records.
#[derive(Default)]
struct Hello(Listener);

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
    let mut connection = ServiceConnection::new(&mut session, Listener::default());
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
        // While a message is partly sent, another one is refused.
        let none = give_up(&Cell::new(0), client.send(&message(9000))).await;
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
fn reply_to_an_abandoned_request_is_not_taken_for_another() {
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
        // Sent, without time for the reply.
        assert!(give_up(&Cell::new(0), client.request(b"first", &mut reply)).await.is_none());
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
                there.output.cut();
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
