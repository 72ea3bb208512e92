//! The async link and client: both ends in memory, in virtual time, over pipes that cut anywhere, and
//! over real sockets against our server.

#![cfg(test)]

mod sockets;
mod world;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use countersign::{
    Alert, Buffers, Config, Digest, Error, Instant, Key, Multiprocessing, Mutual, Nonce, Outbox,
    ProcessId, Remaining, Role, Scheme, SendError, Session, TimedOut, Truncated,
};
use countersign_driver::services::Echo;
use countersign_driver::{Chunk, Connection, Failure, Flow, Service};
use countersign_embedded_io::asynchronous::{Client, Link};
use countersign_embedded_io::{ClientError, Message};
use embedded_hal_async::delay::DelayNs;

use world::{Broken, End, Pipe, World, give_up};

/// Length of the buffers for messages, in bytes.
const BUFFER: usize = 512;
const SECRET: &[u8] = b"what both ends have and nobody else";

type Memory = Box<[u8]>;
type Wire<C> = Link<Pipe, Pipe, C, World, 16>;

fn buffers() -> Buffers<Memory> {
    let memory = |len| vec![0; len].into();
    Buffers { handshake: memory(1024), receive: memory(BUFFER), send: memory(BUFFER) }
}

/// One end of a session of `scheme`; the other has other randomness.
fn session(scheme: Scheme, role: Role, world: &World) -> Session<Memory> {
    let byte = role as u8;
    let instance = ProcessId::from_bytes(&[byte; ProcessId::LEN]);
    let config = Config::new(scheme).with_process_id(instance);
    let make = match role {
        Role::Client => Session::client,
        Role::Server => Session::server,
    };
    make(&config, Nonce::from_bytes([byte; Nonce::LEN]), buffers(), world.now()).unwrap()
}

/// `mutual`, whose ends say so every second that they are there.
fn mutual(role: Role) -> Scheme {
    let name = if role == Role::Client { "client" } else { "server" };
    // The instance is the session's: see above.
    let instance = ProcessId::from_bytes(&[7; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), instance);
    Scheme::Mutual(mutual.with_heartbeat(Duration::from_secs(1)))
}

/// A scheme's name, what either end is to speak, and the key for it.
type Spoken = (&'static str, fn(Role) -> Scheme, Option<Key>);

fn schemes() -> Vec<Spoken> {
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

fn link(end: End, world: &World) -> Wire<impl Fn() -> Instant + use<>> {
    Link::new(end.input, end.output, world.clock(), world.clone()).with_shut(Pipe::shut)
}

/// Runs `service` at the server's end.
async fn serve<S: Service>(
    end: End,
    world: &World,
    scheme: Scheme,
    key: Option<Key>,
    service: S,
) -> (Result<(), Failure<Broken>>, S) {
    let mut session = session(scheme, Role::Server, world);
    let mut connection = Connection::new(&mut session, service);
    let how = link(end, world).run(&mut connection, &key).await;
    (how, connection.into_service())
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

/// Sends back each message once all of it is here: of a byte stream, what has come. Who sends a long one
/// and receives nothing meanwhile could otherwise wait for an echo that waits for its reader.
#[derive(Default)]
struct Whole {
    message: Vec<u8>,
    /// How much of it is sent back, when it is all here.
    sent: Option<usize>,
}

impl Whole {
    fn answer(&mut self, out: &mut Outbox<'_>) {
        while let Some(sent) = self.sent {
            let chunk = &self.message[sent..];
            let chunk = &chunk[..chunk.len().min(out.max_chunk())];
            let left = self.message.len() - sent - chunk.len();
            let remaining = if left == 0 { Remaining::End } else { Remaining::Bytes(left as u64) };
            match out.send_chunk(chunk, remaining) {
                Err(SendError::Full) => return,
                sent => sent.unwrap(),
            }
            self.sent = (left > 0).then_some(sent + chunk.len());
        }
        self.message.clear();
    }
}

impl Service for Whole {
    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, _: Instant) -> Flow {
        if self.sent.is_some() {
            return Flow::Backpressure;
        }
        self.message.extend_from_slice(chunk.bytes);
        if matches!(chunk.remaining, Remaining::End | Remaining::Unknown) {
            self.sent = Some(0);
            self.answer(out);
        }
        Flow::Consumed
    }

    fn on_writable(&mut self, out: &mut Outbox<'_>, _: Instant) {
        self.answer(out);
    }

    fn on_finished(&mut self, out: &mut Outbox<'_>, _: Instant) {
        assert_eq!(self.sent, None, "the client has not waited for its answer");
        out.finish();
    }
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
fn messages_of_any_length_come_back_however_they_are_cut() {
    for seed in 0..40 {
        for (name, scheme, key) in schemes() {
            let world = World::new(seed);
            let (here, there) = world.pair(200);
            let server = serve(there, &world, scheme(Role::Server), key.clone(), Whole::default());
            let client = async {
                let mut session = session(scheme(Role::Client), Role::Client, &world);
                let wire = link(here, &world);
                let mut client = Client::connect(wire, &mut session, &key).await.unwrap();
                for len in LENGTHS {
                    // Of a byte stream, what came is sent back before the rest is taken.
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
                assert!(client.recv_chunk().await.unwrap().is_none());
                client.close().await.unwrap();
                assert_eq!(client.send(b"late").await, Err(ClientError::Send(SendError::Finished)));
            };
            let (client, server) = world.run(client, server);
            assert!(client.is_some(), "{name} {seed}");
            assert_eq!(server.map(|(how, _)| how), Some(Ok(())), "{name} {seed}");
        }
    }
}

/// What a whole conversation comes to, in which calls are dropped when `patience` is used up, and made
/// again: with `once`, only the first time.
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
            let mut received = Message::new(&mut buffer);
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
    // The other end's run is dropped as often.
    let server = async {
        let mut session = session(mutual(Role::Server), Role::Server, &world);
        let mut connection = Connection::new(&mut session, Whole::default());
        let mut wire = link(there, &world);
        loop {
            match give_up(&left, wire.run(&mut connection, &key)).await {
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
fn calls_that_are_dropped_wherever_they_wait_lose_nothing() {
    let whole: Vec<_> = [5, 2000, 0, 700, 300].map(message).into();
    let mut waits = 0;
    // Each place in which anything waits, one after the other: until a run is over before it comes to it.
    for patience in 0.. {
        let (came, dropped) = conversation(1, patience, true);
        assert!(came == whole, "dropped at wait {patience}");
        if dropped == 0 {
            waits = patience;
            break;
        }
    }
    assert!(waits > 300, "{waits}");
    // And every so often.
    for seed in 0..30 {
        for patience in 0..8 {
            let (came, dropped) = conversation(seed, patience, false);
            assert!(came == whole, "seed {seed}, dropped at each wait {patience}");
            assert!(dropped > 10);
        }
    }
}

#[test]
fn an_idle_line_keeps_its_heartbeats_for_as_long_as_it_is_waited_at() {
    let world = World::new(3);
    let (here, there) = world.pair(200);
    let key = Some(Key::mutual(SECRET).unwrap());
    let server = serve(there, &world, mutual(Role::Server), key.clone(), Echo);
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut hour = world.clone();
        let mut hour = pin!(hour.delay_us(3_600_000_000));
        // The hour is up, or something came.
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

/// What a client's call comes to when, once it is connected, `then` happens to its line.
fn after(then: impl Fn(&Pipe, &Pipe), scheme: fn(Role) -> Scheme) -> (ClientError<Broken>, u64) {
    let world = World::new(5);
    let (here, there) = world.pair(200);
    let (input, output) = (here.input.clone(), here.output.clone());
    let key = Some(Key::mutual(SECRET).unwrap());
    // The server falls silent as soon as it has let the client in.
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
        // And it stays so.
        let lost = Error::Transport;
        let then = match error {
            ClientError::Io(_) => ClientError::Protocol(lost),
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
fn a_peer_that_falls_silent_is_given_up_after_two_heartbeats_and_5_s() {
    let (error, took) = after(|_, _| {}, mutual);
    assert_eq!(error, ClientError::Protocol(Error::TimedOut(TimedOut::Peer)));
    assert_eq!(took, 7_000);
}

#[test]
fn a_line_that_is_cut_is_truncated() {
    let (error, _) = after(|input, _| input.cut(), mutual);
    assert_eq!(error, ClientError::Protocol(Error::Truncated(Truncated::Stream)));
}

#[test]
fn a_line_that_breaks_is_an_error_of_the_transport() {
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
        assert_eq!(error, ClientError::Io(Broken));
    }
}

#[test]
fn a_wrong_key_is_refused_at_both_ends() {
    let world = World::new(9);
    let (here, there) = world.pair(200);
    let right = Some(Key::mutual(SECRET).unwrap());
    let wrong = Some(Key::mutual(b"something else altogether").unwrap());
    let server = serve(there, &world, mutual(Role::Server), right, Echo);
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        Client::connect(link(here, &world), &mut session, &wrong).await.map(drop)
    };
    let (client, server) = world.run(client, server);
    let alert = Error::Alert(Alert::Refused);
    assert_eq!(client.unwrap(), Err(ClientError::Protocol(alert)));
    assert_eq!(server.unwrap().0, Err(Failure::Protocol(Error::WrongKey)));
}

#[test]
fn who_does_not_read_is_not_written_to_and_loses_nothing() {
    let world = World::new(11);
    let (here, there) = world.pair(100);
    let up = here.output.clone();
    let key = Some(Key::mutual(SECRET).unwrap());
    let server = serve(there, &world, mutual(Role::Server), key.clone(), Echo);
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        let mut sent = 0;
        // A part at hand is the caller's until it calls to receive the next: what it sends meanwhile
        // fills both ends and the line, and then waits.
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

/// Writes down what it was told, and answers nothing.
#[derive(Default)]
struct Listener {
    bytes: usize,
    closed: Option<Result<(), Error>>,
}

impl Service for Listener {
    fn on_message(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        self.bytes += chunk.bytes.len();
        Flow::Consumed
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.closed = Some(why);
    }
}

#[test]
fn what_came_before_writing_failed_is_heard() {
    let world = World::new(13);
    let (here, there) = world.pair(4000);
    let mut session = session(Scheme::None, Role::Server, &world);
    let mut connection = Connection::new(&mut session, Hello::default());
    let mut far = there;
    let test = async {
        use embedded_io_async::Write as _;
        for _ in 0..30 {
            far.output.write_all(&[0, 0, 0, 3, b'a', b'b', b'c']).await.unwrap();
        }
        here.output.break_down();
        let mut wire = link(here, &world);
        wire.run(&mut connection, &None::<Key>).await
    };
    let (how, _) = world.run(test, async {});
    assert_eq!(how, Some(Err(Failure::Io(Broken))));
    let heard = connection.into_service().0;
    assert_eq!((heard.bytes, heard.closed), (90, Some(Err(Error::Transport))));
}

/// Says hello, and listens.
#[derive(Default)]
struct Hello(Listener);

impl Service for Hello {
    fn on_open(&mut self, _: &countersign::Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        out.send(b"hello").unwrap();
    }

    fn on_message(&mut self, chunk: Chunk<'_>, out: &mut Outbox<'_>, now: Instant) -> Flow {
        self.0.on_message(chunk, out, now)
    }

    fn on_closed(&mut self, why: Result<(), Error>) {
        self.0.on_closed(why);
    }
}

/// Always has something to read.
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
fn a_flood_leaves_other_tasks_their_turn() {
    let world = World::new(17);
    let mut session = session(Scheme::None, Role::Server, &world);
    let mut connection = Connection::new(&mut session, Listener::default());
    let mut wire: Link<_, _, _, _, 64> = Link::new(Flood, Flood, world.clock(), world.clone());
    {
        let mut run = pin!(wire.run(&mut connection, &None::<Key>));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..100 {
            assert!(run.as_mut().poll(&mut context).is_pending());
        }
    }
    assert_eq!(connection.error(), None);
}

#[test]
fn a_message_that_is_too_long_is_to_be_taken_in_parts() {
    let world = World::new(19);
    let (here, there) = world.pair(200);
    let key = Some(Key::mutual(SECRET).unwrap());
    let server = serve(there, &world, mutual(Role::Server), key.clone(), Whole::default());
    let client = async {
        let mut session = session(mutual(Role::Client), Role::Client, &world);
        let mut client = Client::connect(link(here, &world), &mut session, &key).await.unwrap();
        client.send(&message(1000)).await.unwrap();
        let mut buffer = [0; 600];
        let mut received = Message::new(&mut buffer);
        assert_eq!(client.recv(&mut received).await, Err(ClientError::TooLong));
        let mut all = received.bytes().to_vec();
        assert!(!received.is_whole());
        while all.len() < 1000 {
            all.extend_from_slice(client.recv_chunk().await.unwrap().unwrap().bytes);
        }
        assert_eq!(all, message(1000));
        received.clear();
        // Half a message, and then another: refused, and the right one goes on.
        let none = give_up(&Cell::new(0), client.send(&message(9000))).await;
        assert!(none.is_none());
        let other = client.send(b"other").await;
        assert!(matches!(other, Err(ClientError::Send(SendError::LengthMismatch { .. }))));
        client.close().await.ok();
    };
    let (client, server) = world.run(client, server);
    assert!(client.is_some() && server.is_some());
}
