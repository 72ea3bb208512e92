//! The blocking link and client over real sockets, which are asked whether they are ready: against our
//! server's event loop, and against each other.

#![cfg(test)]

#[path = "../examples/socket/mod.rs"]
mod socket;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as HostInstant};

use countersign::{
    Alert, Buffers, Config, Digest, Error, Instant, Key, Mutual, Nonce, ProcessId, Remaining, Role,
    Scheme, SendError, Session, TimedOut, Truncated,
};
use countersign_driver::services::Echo;
use countersign_driver::{Connection, Failure, Wait};
use countersign_embedded_io::blocking::{Client, Link};
use countersign_embedded_io::{ClientError, Message};
use countersign_host::{
    Address, Clock, PeerAddr, PoolOptions, Pools, ServerOptions, SessionFactory, process_id,
};
use countersign_mio::Server;

use socket::Socket;

const SECRET: &[u8] = b"what both ends have and nobody else";

fn mutual(name: &str) -> Scheme {
    // The instance of the end that is not the server's process.
    let instance = ProcessId::from_bytes(&[7; ProcessId::LEN]);
    let mutual = Mutual::new(name.parse().unwrap(), instance);
    Scheme::Mutual(mutual.with_heartbeat(Duration::from_secs(1)))
}

fn challenge() -> Scheme {
    Scheme::Challenge { digest: Digest::Sha256 }
}

fn session(scheme: Scheme, role: Role, clock: Clock) -> Session<[u8; 512]> {
    let buffers = Buffers { handshake: [0; 512], receive: [0; 512], send: [0; 512] };
    let nonce = Nonce::from_bytes([role as u8; Nonce::LEN]);
    let make = match role {
        Role::Client => Session::client,
        Role::Server => Session::server,
    };
    make(&Config::new(scheme), nonce, buffers, clock.now()).unwrap()
}

type Wire<C, P> = Link<Socket, C, P>;

fn link(
    stream: TcpStream,
    clock: Clock,
) -> Wire<impl Fn() -> Instant + use<>, impl FnMut(Wait) + use<>> {
    let socket = Socket::new(stream).unwrap();
    let handle = socket.try_clone().unwrap();
    Link::new(socket, move || clock.now(), move |wait| handle.wait(wait, clock.now()))
        .with_shut(Socket::shut)
}

/// Where our server listens, which echoes and whose heart beats every second.
fn server() -> Address {
    let Scheme::Mutual(mutual) = mutual("server") else { unreachable!() };
    let config = Config::new(Scheme::Mutual(mutual)).with_process_id(process_id().unwrap());
    let protocol = Arc::new(SessionFactory::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(SECRET).unwrap());
    let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
    let at = listeners[0].address().unwrap();
    let open = |_: &PeerAddr, _| Echo;
    let mut server =
        Server::new(listeners, protocol, keys, open, ServerOptions::default()).unwrap();
    thread::spawn(move || server.run());
    at
}

fn connect(at: &Address) -> TcpStream {
    TcpStream::connect(at.to_string()).unwrap()
}

fn message(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

#[test]
fn messages_come_back_and_an_idle_line_stays() {
    let clock = Clock::start();
    let mut session = session(mutual("client"), Role::Client, clock);
    let key = Key::mutual(SECRET).unwrap();
    let link = link(connect(&server()), clock);
    let mut client = Client::connect(link, &mut session, &key).unwrap();
    assert_eq!(client.peer().unwrap().name, Some("server"));
    let mut buffer = vec![0; 50_000];
    for len in [1, 0, 1_000, 50_000] {
        client.send(&message(len)).unwrap();
        let mut received = Message::new(&mut buffer);
        assert_eq!(client.recv(&mut received).unwrap().unwrap(), message(len));
    }
    // Longer than a silent peer is borne: two heartbeats and 5 s.
    client.set_timeout(Some(Duration::from_millis(7_500)));
    assert_eq!(client.recv_chunk().err().as_ref().map(kind), Some("timed out"));
    client.send_chunk(b"in ", Remaining::More).unwrap();
    client.send_chunk(b"parts", Remaining::End).unwrap();
    let mut received = Message::new(&mut buffer);
    assert_eq!(client.recv(&mut received).unwrap().unwrap(), b"in parts");
    client.finish().unwrap();
    assert!(client.recv(&mut received).unwrap().is_none());
    client.close().unwrap();
    assert!(matches!(client.send(b"late"), Err(ClientError::Send(SendError::Finished))));
}

fn kind<E>(error: &ClientError<E>) -> &'static str {
    match error {
        ClientError::TimedOut => "timed out",
        _ => "another",
    }
}

#[test]
fn a_wrong_key_is_refused() {
    let clock = Clock::start();
    let mut session = session(mutual("client"), Role::Client, clock);
    let key = Key::mutual(b"something else altogether").unwrap();
    let refused = Client::connect(link(connect(&server()), clock), &mut session, &key).map(drop);
    let alert = Error::Alert(Alert::Refused);
    assert!(matches!(refused, Err(ClientError::Protocol(error)) if error == alert), "{refused:?}");
}

/// Two ends of ours over a socket; what the server's run came to, and the client's doings.
fn pair<T: Send>(
    scheme: fn(&str) -> Scheme,
    key: Key,
    client: impl FnOnce(TcpStream) -> T + Send,
) -> (Result<(), Option<Error>>, T) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::scope(|scope| {
        let serve = scope.spawn(move || {
            let clock = Clock::start();
            let (stream, _) = listener.accept().unwrap();
            let Scheme::Mutual(mutual) = scheme("server") else {
                let mut session = session(scheme("server"), Role::Server, clock);
                let mut connection = Connection::new(&mut session, Echo);
                return link(stream, clock).run(&mut connection, &key);
            };
            let other = ProcessId::from_bytes(&[9; ProcessId::LEN]);
            let scheme = Scheme::Mutual(mutual.with_process_id(other));
            let mut session = session(scheme, Role::Server, clock);
            let mut connection = Connection::new(&mut session, Echo);
            link(stream, clock).run(&mut connection, &key)
        });
        let done = client(TcpStream::connect(at).unwrap());
        let served = serve.join().unwrap().map_err(|failure| match failure {
            Failure::Io(_) => None,
            Failure::Protocol(error) => Some(error),
        });
        (served, done)
    })
}

#[test]
fn a_byte_stream_ends_when_its_write_side_is_shut() {
    let key = || Key::challenge(Digest::Sha256, b"k").unwrap();
    let (served, ()) = pair(
        |_| challenge(),
        key(),
        |stream| {
            let clock = Clock::start();
            let mut session = session(challenge(), Role::Client, clock);
            let mut client = Client::connect(link(stream, clock), &mut session, &key()).unwrap();
            client.send(b"hello").unwrap();
            client.finish().unwrap();
            let mut came = Vec::new();
            while let Some(part) = client.recv_chunk().unwrap() {
                came.extend_from_slice(part.bytes);
            }
            assert_eq!(came, b"hello");
            client.close().unwrap();
        },
    );
    assert_eq!(served, Ok(()));
}

#[test]
fn a_line_that_is_cut_is_noticed_at_the_other_end() {
    let key = || Key::mutual(SECRET).unwrap();
    let (served, ()) = pair(mutual, key(), |stream| {
        let clock = Clock::start();
        let mut session = session(mutual("client"), Role::Client, clock);
        let mut client = Client::connect(link(stream, clock), &mut session, &key()).unwrap();
        client.send(b"half a ").unwrap();
        client.flush().unwrap();
        assert_eq!(client.recv_chunk().unwrap().unwrap().bytes, b"half a ");
    });
    assert_eq!(served, Err(Some(Error::Truncated(Truncated::Stream))));
}

#[test]
fn deadlines_pass_while_nothing_comes() {
    // Somebody who connects and says nothing.
    let key = Key::mutual(SECRET).unwrap();
    let started = HostInstant::now();
    let (served, held) = pair(mutual, key, |stream| stream);
    drop(held);
    assert_eq!(served, Err(Some(Error::TimedOut(TimedOut::Handshake))));
    assert!(started.elapsed() >= Duration::from_secs(5));
}

#[test]
fn what_timed_out_goes_on_where_it_was() {
    let key = || Key::mutual(SECRET).unwrap();
    let (served, ()) = pair(mutual, key(), |stream| {
        let clock = Clock::start();
        let mut session = session(mutual("client"), Role::Client, clock);
        let mut client = Client::connect(link(stream, clock), &mut session, &key()).unwrap();
        // No time at all: each call gets as far as it can.
        client.set_timeout(Some(Duration::ZERO));
        let mut buffer = [0; 1500];
        for round in 0..50 {
            let sent = message(1000 + round);
            let mut received = Message::new(&mut buffer);
            while let Err(error) = client.send(&sent) {
                assert_eq!(kind(&error), "timed out");
            }
            loop {
                match client.recv(&mut received) {
                    Ok(got) => break assert_eq!(got.unwrap(), sent),
                    Err(error) => assert_eq!(kind(&error), "timed out"),
                }
            }
        }
        client.set_timeout(None);
        client.close().unwrap();
    });
    assert_eq!(served, Ok(()));
}
