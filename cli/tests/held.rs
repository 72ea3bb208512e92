//! Ten thousand clients at once, held by one thread. Prints what an idle one costs.

#![cfg(test)]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;

use common::{At, PATIENCE, Scratch, Server, allow_files};
use countersign::{
    Buffers, Candidates, Config, Digest, Event, Instance, Instant, Key, Machine, Mutual, Name,
    Nonce, Purpose, Scheme, Session,
};

const CLIENTS: usize = 10_000;
/// How many shake hands at once.
const BATCH: usize = 1_000;
const KEY: &str = "a key that is long enough for anyone";
/// Time stands still for these clients: they owe no sign of life in between.
const NOW: Instant = Instant::EPOCH;

fn config(scheme: &str) -> Config {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    Config::new(match scheme {
        "challenge" => Scheme::Challenge { digest: Digest::Sha256 },
        _ => {
            let instance = INSTANCE.get_or_init(|| Instance::from_bytes(&[7; Instance::LEN]));
            Scheme::Mutual(Mutual::new(Name::new("client").unwrap(), instance.clone()))
        }
    })
}

fn key(config: &Config) -> Key {
    let purpose = match config.scheme() {
        Scheme::Challenge { digest } => Purpose::Mac(*digest),
        _ => Purpose::Derivation,
    };
    Key::new(purpose, KEY.as_bytes()).unwrap()
}

struct Client {
    stream: TcpStream,
    session: Session<Vec<u8>>,
    /// The messages that came, joined.
    heard: Vec<u8>,
}

impl Client {
    fn connect(at: &At, config: &Config, number: usize) -> Self {
        let At::Tcp(at) = at else { panic!("not listening on TCP: {at}") };
        let stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut nonce = [0; Nonce::LEN];
        nonce[..8].copy_from_slice(&number.to_be_bytes());
        let buffers =
            Buffers { handshake: vec![0; 1024], receive: vec![0; 512], send: vec![0; 512] };
        let session = Session::client(config, Nonce::from_bytes(nonce), buffers, NOW).unwrap();
        Self { stream, session, heard: Vec::new() }
    }

    /// Drives the session until `done` says so.
    fn until(&mut self, key: &Key, done: impl Fn(&Self) -> bool) {
        loop {
            while let Some(event) = self.session.poll_event(NOW).unwrap() {
                match event {
                    Event::KeyNeeded => {
                        self.session.provide_key(Ok(Candidates::one(key)), NOW).unwrap();
                    }
                    Event::Message { .. } => {
                        self.heard.extend_from_slice(self.session.split().0);
                        self.session.consume(NOW);
                    }
                    _ => {}
                }
            }
            let bytes = self.session.poll_transmit(NOW);
            if !bytes.is_empty() {
                self.stream.write_all(bytes).unwrap();
                let n = bytes.len();
                self.session.handle_transmitted(n, NOW);
                continue;
            }
            if done(self) {
                return;
            }
            let n = self.stream.read(self.session.recv_space()).unwrap();
            assert!(n > 0, "the server hung up");
            self.session.handle_received(n, NOW);
        }
    }
}

/// All ask before any reads its answer.
fn ask(clients: &mut [Client], key: &Key, round: &str) {
    let message = |index| format!("client {index}, {round}");
    for (index, client) in clients.iter_mut().enumerate() {
        client.heard.clear();
        client.session.split().1.send(message(index).as_bytes()).unwrap();
        client.until(key, |_| true);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let expected = message(index).to_uppercase();
        client.until(key, |client| client.heard.len() >= expected.len());
        assert_eq!(client.heard, expected.as_bytes());
    }
}

fn hold(scheme: &str) {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--scheme", scheme];
    let server = Server::start(&scratch, KEY, &args);
    let config = config(scheme);
    let key = key(&config);
    let established = |client: &Client| client.session.peer().is_some();
    let enter = |from: usize, to: usize| -> Vec<Client> {
        let mut batch: Vec<_> =
            (from..to).map(|number| Client::connect(&server.at[0], &config, number)).collect();
        batch.iter_mut().for_each(|client| client.until(&key, established));
        batch
    };
    // The first pays for what every server needs.
    ask(&mut enter(0, 1), &key, "first of all");
    let before = server.memory();

    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        clients.extend(enter(clients.len() + 1, clients.len() + 1 + BATCH));
    }
    ask(&mut clients, &key, "once");
    ask(&mut clients, &key, "again");

    let grown = server.memory().saturating_sub(before);
    let each = grown / CLIENTS as u64;
    println!("memory per idle connection of {scheme}: {each} bytes");
    assert!(each < 1024, "{each} bytes");
}

/// Ten thousand strangers who hear the server's first message and say nothing.
fn half_open() {
    if !allow_files(CLIENTS as u64 + 200) {
        return;
    }
    let scratch = Scratch::new();
    let args = ["--listen", "127.0.0.1:0", "--max-connections", "11000", "--scheme", "mutual"];
    let server =
        Server::start(&scratch, KEY, &[&args[..], &["--max-handshakes", "11000"]].concat());
    let At::Tcp(at) = &server.at[0] else { panic!("not listening on TCP") };
    let before = server.memory();
    let mut strangers: Vec<TcpStream> =
        (0..CLIENTS).map(|_| TcpStream::connect(at).unwrap()).collect();
    for stranger in &mut strangers {
        stranger.set_read_timeout(Some(PATIENCE)).unwrap();
        stranger.read_exact(&mut [0; 45]).unwrap();
    }
    let each = server.memory().saturating_sub(before) / CLIENTS as u64;
    println!("memory per half-open connection of mutual: {each} bytes");
    assert!(each < 3 * 1024, "{each} bytes");

    let config = config("mutual");
    let key = key(&config);
    let mut honest = [Client::connect(&server.at[0], &config, 0)];
    ask_once_established(&mut honest, &key);
    for mut stranger in strangers {
        let mut rest = Vec::new();
        stranger.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\0\0\0\x02\x7f\x05", "not told that it was too slow");
    }
    ask(&mut honest, &key, "still there");
}

fn ask_once_established(clients: &mut [Client], key: &Key) {
    for client in &mut *clients {
        client.until(key, |client| client.session.peer().is_some());
    }
    ask(clients, key, "among strangers");
}

#[test]
fn ten_thousand_at_once_cost_little_whether_they_talk_or_say_nothing() {
    // One after the other: both need all the files there are.
    for scheme in ["mutual", "challenge"] {
        hold(scheme);
    }
    half_open();
}
