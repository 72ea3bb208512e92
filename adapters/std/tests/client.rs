//! The client, against servers that a test plays itself and against real ones.

#![cfg(test)]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign::{
    Config, Digest, Error, Framing, Key, KeyRejection, Mac, Remaining, Scheme, SendError, TimedOut,
    Truncated,
};
use countersign_driver::services::Echo;
use countersign_host::{
    Address, ClientError, ClientOptions, PeerAddr, PoolOptions, Pools, ServerHandle, ServerOptions,
    SessionFactory,
};
use countersign_mio::Server;
use countersign_std::Client;

/// For anything that must happen; never how long it is expected to take.
const PATIENCE: Duration = Duration::from_secs(30);
/// For what is to time out.
const SHORT: Duration = Duration::from_millis(300);
/// More than the system keeps for a peer that does not read.
const MUCH: usize = 32 << 20;
const NO_KEY: Option<Key> = None;
const SHA256: Digest = Digest::Sha256;
const CHALLENGE: Scheme = Scheme::Challenge { digest: SHA256 };

fn sessions(config: Config) -> SessionFactory {
    SessionFactory::new(config, Pools::new(&PoolOptions::default()))
}

fn options(timeout: Duration) -> ClientOptions {
    let mut options = ClientOptions::default();
    options.timeout = Some(timeout);
    options.max_message = 2 * MUCH;
    options
}

/// A server that a test plays: `play` has the one connection that is made to it.
fn server<T: Send + 'static>(
    play: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (Address, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let playing = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        play(stream)
    });
    (address, playing)
}

/// A client of the scheme `none`, none of whose calls takes for ever.
fn connect(address: &Address) -> Client {
    let protocol = sessions(Config::new(Scheme::None));
    Client::connect(address, &protocol, &NO_KEY, &options(PATIENCE)).unwrap()
}

fn key(secret: &[u8]) -> Key {
    Key::challenge(SHA256, secret).unwrap()
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

fn read_frame(mut stream: &TcpStream) -> Vec<u8> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u32::from_be_bytes(header) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

/// Runs threads that wait for each other. One that waits in vain gives up after a while, and might
/// find then that all is well.
fn promptly<'env>(talk: impl for<'scope> FnOnce(&'scope thread::Scope<'scope, 'env>)) {
    let begun = Instant::now();
    thread::scope(talk);
    let took = begun.elapsed();
    assert!(took < PATIENCE, "{took:?}");
}

/// `len` bytes that are not all alike.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Reads all of it, whatever it takes.
fn read_all(mut stream: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// The end of a test's connection with a reset rather than an end of stream.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// A real server on a thread of its own.
struct Echoing {
    address: Address,
    remote: ServerHandle,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echoing {
    fn start(config: Config, key: Option<Key>) -> Self {
        let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        let address = listeners[0].address().unwrap();
        let mut server = Server::new(
            listeners,
            Arc::new(sessions(config)),
            Arc::new(key),
            |_: &PeerAddr, _| Echo,
            ServerOptions::default(),
        )
        .unwrap();
        let remote = server.remote();
        Self { address, remote, thread: Some(thread::spawn(move || server.run())) }
    }
}

impl Drop for Echoing {
    fn drop(&mut self) {
        self.remote.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            ended.unwrap().unwrap().unwrap();
        }
    }
}

#[test]
fn the_recipe_as_anybody_would_write_it() {
    let (address, playing) = server(|mut stream| {
        let challenge = [7; 32];
        stream.write_all(&challenge[..5]).unwrap();
        stream.write_all(&challenge[5..]).unwrap();
        let mut response = [0; 32];
        stream.read_exact(&mut response).unwrap();
        assert_eq!(response, Mac::new(SHA256, b"secret").tag(&challenge).bytes());
        let mut request = [0; 5];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"hello");
        stream.write_all(b"HELLO").unwrap();
    });
    let protocol = sessions(Config::new(CHALLENGE));
    let client = Client::connect(&address, &protocol, &key(b"secret"), &options(PATIENCE)).unwrap();
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"HELLO");
    assert_eq!(client.recv().unwrap(), None);
    playing.join().unwrap();
}

#[test]
fn a_real_server_lets_in_who_has_the_key_and_nobody_else() {
    let config = Config::new(CHALLENGE).with_framing(Framing::U32);
    let server = Echoing::start(config.clone(), Some(key(b"right")));
    let connect = |with: &[u8]| {
        let protocol = sessions(config.clone());
        Client::connect(&server.address, &protocol, &key(with), &options(PATIENCE)).unwrap()
    };
    let client = connect(b"right");
    client.send(b"hello").unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    // Nothing is said to the others: they find the connection closed.
    assert_eq!(connect(b"wrong").recv().unwrap(), None);
}

#[test]
fn a_server_that_closes_within_the_handshake_is_an_error() {
    let (address, playing) = server(|mut stream| stream.write_all(&[7; 31]).unwrap());
    let protocol = sessions(Config::new(CHALLENGE));
    let failed = Client::connect(&address, &protocol, &key(b"secret"), &options(PATIENCE));
    assert!(
        matches!(failed, Err(ClientError::Protocol(Error::Truncated(Truncated::Handshake)))),
        "{failed:?}"
    );
    playing.join().unwrap();
}

#[test]
fn a_client_without_a_key_answers_no_challenge() {
    let (address, playing) = server(|mut stream| {
        stream.write_all(&[7; 32]).unwrap();
        assert_eq!(read_all(&stream), b"");
    });
    let protocol = sessions(Config::new(CHALLENGE));
    let failed = Client::connect(&address, &protocol, &NO_KEY, &options(PATIENCE));
    assert!(
        matches!(failed, Err(ClientError::Protocol(Error::Refused(KeyRejection::Unknown)))),
        "{failed:?}"
    );
    playing.join().unwrap();
}

#[test]
fn a_server_that_says_nothing_is_left_at_the_handshake_timeout() {
    let (address, playing) = server(|stream| assert_eq!(read_all(&stream), b""));
    let protocol = sessions(Config::new(CHALLENGE).with_handshake_timeout(SHORT));
    let begun = Instant::now();
    let failed = Client::connect(&address, &protocol, &key(b"secret"), &options(PATIENCE));
    assert!(
        matches!(failed, Err(ClientError::Protocol(Error::TimedOut(TimedOut::Handshake)))),
        "{failed:?}"
    );
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    playing.join().unwrap();
}

#[test]
fn a_timeout_that_is_shorter_than_the_handshakes_comes_first() {
    let (address, playing) = server(|stream| assert_eq!(read_all(&stream), b""));
    let protocol = sessions(Config::new(CHALLENGE).with_handshake_timeout(PATIENCE));
    let begun = Instant::now();
    let failed = Client::connect(&address, &protocol, &key(b"secret"), &options(SHORT));
    assert!(matches!(failed, Err(ClientError::TimedOut)), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    playing.join().unwrap();
}

#[test]
fn a_recv_that_times_out_leaves_the_connection_as_it_was() {
    let (go, told) = channel();
    let (address, playing) = server(move |mut stream| {
        let whole = frame(b"late");
        stream.write_all(&whole[..6]).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        stream.write_all(&whole[6..]).unwrap();
    });
    let protocol = sessions(Config::new(Scheme::None));
    let client = Client::connect(&address, &protocol, &NO_KEY, &options(SHORT)).unwrap();
    let begun = Instant::now();
    let failed = client.recv();
    assert!(matches!(failed, Err(ClientError::TimedOut)), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    go.send(()).unwrap();
    assert_eq!(patiently(|| client.recv()).unwrap().unwrap(), b"late");
    playing.join().unwrap();
}

/// Calls again after a timeout: on a slow machine one is not enough.
fn patiently<T>(mut call: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call() {
            Err(ClientError::TimedOut | ClientError::Busy) if Instant::now() < until => {}
            other => return other,
        }
    }
}

#[test]
fn a_send_that_times_out_is_still_sent_whole_and_the_next_one_is_told_to_wait() {
    let (go, told) = channel();
    let (address, playing) = server(move |mut stream| {
        told.recv_timeout(PATIENCE).unwrap();
        let first = read_frame(&stream);
        let second = read_frame(&stream);
        assert_eq!(read_all(&stream), b"");
        stream.write_all(&frame(b"thanks")).unwrap();
        (first, second)
    });
    let protocol = sessions(Config::new(Scheme::None));
    let client = Client::connect(&address, &protocol, &NO_KEY, &options(SHORT)).unwrap();
    let message = bytes(MUCH);
    let begun = Instant::now();
    let failed = client.send(&message);
    assert!(matches!(failed, Err(ClientError::TimedOut)), "{failed:?}");
    let took = begun.elapsed();
    assert!(SHORT <= took && took < PATIENCE / 2, "{took:?}");
    let failed = client.send(b"never sent");
    assert!(matches!(failed, Err(ClientError::Busy)), "{failed:?}");

    go.send(()).unwrap();
    let next = || match client.send(b"next") {
        // It is on its way, and not to be sent again.
        Err(ClientError::TimedOut) => Ok(()),
        other => other,
    };
    patiently(next).unwrap();
    patiently(|| client.finish()).unwrap();
    assert_eq!(patiently(|| client.recv()).unwrap().unwrap(), b"thanks");
    assert_eq!(patiently(|| client.recv()).unwrap(), None);
    let (first, second) = playing.join().unwrap();
    assert!(first == message, "{} bytes of {}, or others", first.len(), message.len());
    assert_eq!(second, b"next");
}

#[test]
fn what_was_sent_has_left_when_the_call_is_over() {
    let (go, told) = channel();
    let (address, playing) = server(move |stream| {
        let count = told.recv_timeout(PATIENCE).unwrap();
        (0..count).for_each(|_| assert_eq!(read_frame(&stream), [7; 4096]));
    });
    let protocol = sessions(Config::new(Scheme::None));
    let client = Client::connect(&address, &protocol, &NO_KEY, &options(SHORT)).unwrap();
    let mut count = 0;
    let failed = loop {
        match client.send(&[7; 4096]) {
            Ok(()) => count += 1,
            Err(failed) => break failed,
        }
    };
    assert!(matches!(failed, ClientError::TimedOut), "{failed:?}");
    // They do not wait for another call.
    go.send(count).unwrap();
    playing.join().unwrap();
    drop(client);
}

#[test]
fn what_a_send_left_over_leaves_while_another_call_receives() {
    let (go, told) = channel();
    let (address, playing) = server(move |mut stream| {
        told.recv_timeout(PATIENCE).unwrap();
        let message = read_frame(&stream);
        stream.write_all(&frame(b"thanks")).unwrap();
        message
    });
    let protocol = sessions(Config::new(Scheme::None));
    let client = Client::connect(&address, &protocol, &NO_KEY, &options(SHORT)).unwrap();
    let message = bytes(MUCH);
    let failed = client.send(&message);
    assert!(matches!(failed, Err(ClientError::TimedOut)), "{failed:?}");
    go.send(()).unwrap();
    assert_eq!(patiently(|| client.recv()).unwrap().unwrap(), b"thanks");
    assert!(playing.join().unwrap() == message);
}

/// Has half a message received, the rest sent if `punctual`, and thinks for longer than the stall
/// timeout.
fn recv_after_a_while(punctual: bool) -> Result<Option<Vec<u8>>, ClientError> {
    let (go, told) = channel();
    let (sent, is_sent) = channel();
    let (done, is_done) = channel::<()>();
    let (address, playing) = server(move |mut stream| {
        let whole = frame(b"second");
        stream.write_all(&[&frame(b"first")[..], &whole[..7]].concat()).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        if punctual {
            stream.write_all(&whole[7..]).unwrap();
        }
        sent.send(()).unwrap();
        let _ = is_done.recv_timeout(PATIENCE);
    });
    let protocol = sessions(Config::new(Scheme::None).with_stall_timeout(SHORT));
    let client = Client::connect(&address, &protocol, &NO_KEY, &options(PATIENCE)).unwrap();
    assert_eq!(client.recv().unwrap().unwrap(), b"first");
    go.send(()).unwrap();
    is_sent.recv().unwrap();
    thread::sleep(2 * SHORT);
    let second = client.recv();
    drop(done);
    playing.join().unwrap();
    second
}

#[test]
fn who_thinks_longer_than_the_stall_timeout_still_receives_what_was_punctual() {
    assert_eq!(recv_after_a_while(true).unwrap().unwrap(), b"second");
}

#[test]
fn who_thinks_longer_than_the_stall_timeout_still_finds_what_was_not() {
    let failed = recv_after_a_while(false);
    assert!(
        matches!(failed, Err(ClientError::Protocol(Error::TimedOut(TimedOut::Receive)))),
        "{failed:?}"
    );
}

#[test]
fn one_thread_sends_while_another_receives() {
    const LEN: usize = 50 << 20;
    let config = Config::new(Scheme::None).with_max_frame(LEN as u64);
    let server = Echoing::start(config.clone(), None);
    let client =
        Client::connect(&server.address, &sessions(config), &NO_KEY, &options(PATIENCE)).unwrap();
    let message = bytes(LEN);
    promptly(|scope| {
        let sending = scope.spawn(|| client.send(&message));
        let echo = client.recv().unwrap().unwrap();
        assert!(echo == message, "{} bytes of {LEN}, or others", echo.len());
        sending.join().unwrap().unwrap();
    });
    client.finish().unwrap();
    assert_eq!(client.recv().unwrap(), None);
}

#[test]
fn many_messages_of_one_thread_come_back_to_another_in_order() {
    const COUNT: usize = 20_000;
    let server = Echoing::start(Config::new(Scheme::None), None);
    let client = connect(&server.address);
    promptly(|scope| {
        let sending = scope.spawn(|| {
            (0..COUNT).try_for_each(|n| client.send(&n.to_be_bytes()))?;
            client.finish()
        });
        for n in 0..COUNT {
            assert_eq!(client.recv().unwrap().unwrap(), n.to_be_bytes());
        }
        assert_eq!(client.recv().unwrap(), None);
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn what_another_thread_finds_on_the_way_reaches_the_one_that_waits_for_it() {
    const COUNT: usize = 1_000;
    let (heard, is_heard) = channel();
    let (address, playing) = server(move |mut stream| {
        for n in 0..COUNT {
            // Nothing else comes that could end the wait of who waits at the socket.
            stream.write_all(&frame(&n.to_be_bytes())).unwrap();
            is_heard.recv_timeout(PATIENCE).unwrap();
        }
    });
    let client = connect(&address);
    let over = AtomicBool::new(false);
    promptly(|scope| {
        // Has nothing to do, but reads what there is whenever it does that.
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                client.finish().unwrap();
            }
        });
        for n in 0..COUNT {
            assert_eq!(client.recv().unwrap().unwrap(), n.to_be_bytes());
            over.store(n + 1 == COUNT, Ordering::Relaxed);
            if n + 1 < COUNT {
                heard.send(()).unwrap();
            }
        }
    });
    heard.send(()).unwrap();
    playing.join().unwrap();
}

#[test]
fn a_thread_that_waits_to_receive_does_not_hold_up_one_that_sends() {
    let (go, told) = channel();
    let (address, playing) = server(move |mut stream| {
        stream.write_all(&frame(b"first")).unwrap();
        told.recv_timeout(PATIENCE).unwrap();
        // No answer before the whole of it.
        let message = read_frame(&stream);
        stream.write_all(&frame(b"thanks")).unwrap();
        message
    });
    let client = connect(&address);
    let mut message = Vec::new();
    let (waiting, is_waiting) = channel();
    promptly(|scope| {
        let receiving = scope.spawn(|| {
            assert_eq!(client.recv().unwrap().unwrap(), b"first");
            waiting.send(()).unwrap();
            client.recv()
        });
        // By the time that all these are made it is at the socket, and what it waits for there is
        // not all that is needed.
        is_waiting.recv().unwrap();
        message = bytes(MUCH);
        go.send(()).unwrap();
        client.send(&message).unwrap();
        assert_eq!(receiving.join().unwrap().unwrap().unwrap(), b"thanks");
    });
    assert!(playing.join().unwrap() == message);
}

#[test]
fn a_reset_is_the_transports_failure() {
    let (go, told) = channel();
    let (address, playing) = server(move |stream| {
        assert_eq!(read_frame(&stream), b"hello");
        told.recv_timeout(PATIENCE).unwrap();
        reset(stream);
    });
    let client = connect(&address);
    client.send(b"hello").unwrap();
    go.send(()).unwrap();
    let failed = client.recv();
    match &failed {
        Err(ClientError::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        other => panic!("{other:?}"),
    }
    // And stays one.
    assert!(matches!(client.recv(), Err(ClientError::Io(_))));
    assert!(matches!(client.send(b"again"), Err(ClientError::Io(_))));
    playing.join().unwrap();
}

#[test]
fn after_its_own_last_message_a_client_receives_until_the_peers() {
    let (address, playing) = server(|mut stream| {
        let all = read_all(&stream);
        for n in 0..100_u8 {
            stream.write_all(&frame(&[n; 1000])).unwrap();
        }
        all
    });
    let client = connect(&address);
    client.send(b"hello").unwrap();
    client.finish().unwrap();
    let failed = client.send(b"more");
    assert!(
        matches!(failed, Err(ClientError::Send(SendError::Finished | SendError::Ended))),
        "{failed:?}"
    );
    for n in 0..100_u8 {
        assert_eq!(client.recv().unwrap().unwrap(), [n; 1000]);
    }
    assert_eq!(client.recv().unwrap(), None);
    assert_eq!(client.recv().unwrap(), None);
    assert_eq!(playing.join().unwrap(), frame(b"hello"));
}

#[test]
fn a_peer_that_closes_within_a_message_is_an_error() {
    let (address, playing) = server(|mut stream| {
        stream.write_all(&frame(b"whole")).unwrap();
        stream.write_all(&frame(b"half")[..6]).unwrap();
    });
    let client = connect(&address);
    assert_eq!(client.recv().unwrap().unwrap(), b"whole");
    let failed = client.recv();
    assert!(
        matches!(failed, Err(ClientError::Protocol(Error::Truncated(Truncated::Message)))),
        "{failed:?}"
    );
    playing.join().unwrap();
}

#[test]
fn a_long_message_comes_in_parts_that_add_up() {
    let message = bytes(100_000);
    let sent = frame(&message);
    let (address, playing) = server(move |mut stream| stream.write_all(&sent).unwrap());
    let client = connect(&address);
    let mut heard = Vec::new();
    loop {
        let part = client.recv_chunk().unwrap().unwrap();
        assert_eq!(part.first, heard.is_empty());
        heard.extend_from_slice(&part.bytes);
        match message.len() - heard.len() {
            0 => {
                assert_eq!(part.remaining, Remaining::End);
                break;
            }
            left => assert_eq!(part.remaining, Remaining::Bytes(left as u64)),
        }
    }
    assert_eq!(heard, message);
    assert_eq!(client.recv_chunk().unwrap(), None);
    playing.join().unwrap();
}

#[test]
fn a_server_that_stops_reading_is_left_at_the_stall_timeout() {
    let (done, told) = channel::<()>();
    let (address, playing) = server(move |stream| {
        let _ = told.recv();
        drop(stream);
    });
    let protocol = sessions(Config::new(Scheme::None).with_stall_timeout(SHORT));
    let client = Client::connect(&address, &protocol, &NO_KEY, &options(PATIENCE)).unwrap();
    let failed = client.send(&bytes(MUCH));
    assert!(
        matches!(failed, Err(ClientError::Protocol(Error::TimedOut(TimedOut::Send)))),
        "{failed:?}"
    );
    drop(done);
    playing.join().unwrap();
}

#[test]
fn a_send_during_which_the_connection_breaks_is_an_error() {
    let (address, playing) = server(|mut stream| {
        // So that the client is in the middle of it.
        stream.read_exact(&mut [0; 1 << 16]).unwrap();
        reset(stream);
    });
    let client = connect(&address);
    let failed = client.send(&bytes(MUCH));
    assert!(matches!(failed, Err(ClientError::Io(_))), "{failed:?}");
    playing.join().unwrap();
}

#[test]
fn a_send_during_which_the_peer_breaks_the_protocol_is_an_error() {
    let (done, told) = channel::<()>();
    let (address, playing) = server(move |mut stream| {
        stream.read_exact(&mut [0; 1 << 16]).unwrap();
        stream.write_all(&[0xff; 4]).unwrap();
        let _ = told.recv();
    });
    let client = connect(&address);
    let failed = client.send(&bytes(MUCH));
    assert!(matches!(failed, Err(ClientError::Protocol(Error::FrameTooLong { .. }))), "{failed:?}");
    drop(done);
    playing.join().unwrap();
}
