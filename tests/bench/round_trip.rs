//! Round-trip times of messages in the scheme `multiprocessing`, over TCP on the loopback
//! interface: between our client and server, ours and Python's, and Python's alone; and between two
//! bare sockets, the floor. A message of which Nagle's algorithm delays the last segment takes 40
//! ms longer.
//!
//! `cargo bench -p countersign-tests --bench round_trip`
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{Config, Digest, Key, Multiprocessing, Scheme};
use countersign_driver::services::Echo;
use countersign_host::{
    Address, Connector, KeyList, OutstandingChallenges, PoolOptions, Pools, ServerOptions,
    SessionFactory,
};
use countersign_mio::Server;
use countersign_std::Connection;

const SECRET: &str = "a key that is long enough for anyone";
/// Lengths of messages, in bytes.
const LENS: [usize; 7] = [64, 16_384, 16_385, 32_768, 65_536, 262_144, 1_000_000];
/// Messages of each length, one after the other.
const MESSAGES: usize = 40;
/// How often each pair is measured, alternately with the others.
const ROUNDS: usize = 5;

/// The median round-trip time of each length.
type RoundTrips = [Duration; LENS.len()];

/// The names of a client and a server, and their measurement.
type Pair = (&'static str, fn() -> RoundTrips);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Measures `round_trip`, which sends a message and receives its echo.
fn measure(mut round_trip: impl FnMut(&[u8])) -> RoundTrips {
    LENS.map(|len| {
        let message = vec![b'x'; len];
        let time = |_| {
            let start = Instant::now();
            round_trip(&message);
            start.elapsed()
        };
        median((0..MESSAGES).map(time).collect())
    })
}

/// Two sockets without countersign. Each frame, a length and a message, is sent in one write.
fn floor() -> RoundTrips {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let echo = thread::spawn(move || {
        while let Some(frame) = read_frame(&mut server) {
            server.write_all(&frame).unwrap();
        }
    });
    let mut frame = Vec::new();
    let times = measure(|message| {
        frame.clear();
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(message);
        client.write_all(&frame).unwrap();
        assert_eq!(read_frame(&mut client).unwrap().len(), frame.len());
    });
    drop(client);
    echo.join().unwrap();
    times
}

/// Reads a frame with its header. `None` at the end of the stream.
fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).ok()?;
    let mut frame = vec![0; 4 + u32::from_be_bytes(header) as usize];
    frame[..4].copy_from_slice(&header);
    stream.read_exact(&mut frame[4..]).unwrap();
    Some(frame)
}

fn keys() -> KeyList {
    let digests = Multiprocessing::new(Digest::Sha256).compatible().digests();
    digests.map(|digest| Key::challenge(digest, SECRET.as_bytes()).unwrap()).collect()
}

/// Sessions that share no outstanding challenges with others, as in a process of their own.
fn sessions() -> SessionFactory {
    let scheme = Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256).compatible());
    let pools = Pools::new(&PoolOptions::default());
    SessionFactory::new(Config::new(scheme), pools).with_outstanding(OutstandingChallenges::new())
}

/// Runs our echo server while `client`, which gets its port, measures it.
fn with_our_server(client: impl FnOnce(u16) -> RoundTrips) -> RoundTrips {
    let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
    let Address::Tcp { port, .. } = listeners[0].address().unwrap() else { unreachable!() };
    let options = ServerOptions::default();
    let mut server =
        Server::new(listeners, Arc::new(sessions()), Arc::new(keys()), options).unwrap();
    let handle = server.handle();
    let thread = thread::spawn(move || server.run_streams(|_| Echo));
    let times = client(port);
    handle.stop();
    thread.join().unwrap().unwrap();
    times
}

/// Measures the server at `port` with our client.
fn our_client(port: u16) -> RoundTrips {
    let connector = Connector::new(&format!("127.0.0.1:{port}"), sessions(), keys()).unwrap();
    let client = Connection::connect(&connector).unwrap();
    measure(|message| {
        client.send(message).unwrap();
        assert_eq!(client.recv().unwrap().unwrap().len(), message.len());
    })
}

/// Starts the client or the server in Python.
fn start_python(role: &str, port: u16) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/multiprocessing_echo.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(program).args([role, &port.to_string(), SECRET, &MESSAGES.to_string()]);
    command.args(LENS.map(|len| len.to_string())).stdout(Stdio::piped()).spawn().unwrap()
}

/// Reads a line with a number.
fn read_number(lines: &mut impl BufRead) -> f64 {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

/// Measures the server at `port` with Python's client.
fn python_client(port: u16) -> RoundTrips {
    let mut child = start_python("client", port);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let times = LENS.map(|_| Duration::from_secs_f64(read_number(&mut lines)));
    assert!(child.wait().unwrap().success());
    times
}

/// Runs Python's echo server while `client`, which gets its port, measures it.
fn with_python_server(client: impl FnOnce(u16) -> RoundTrips) -> RoundTrips {
    let mut child = start_python("server", 0);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let times = client(read_number(&mut lines) as u16);
    assert!(child.wait().unwrap().success());
    times
}

fn main() {
    // `cargo test` runs this program without `--bench`.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let mut pairs: Vec<Pair> =
        vec![("bare sockets", floor), ("ours to ours", || with_our_server(our_client))];
    match Command::new("python3").arg("--version").output() {
        Ok(version) if version.status.success() => {
            println!("{}", String::from_utf8_lossy(&version.stdout).trim());
            pairs.push(("Python to ours", || with_our_server(python_client)));
            pairs.push(("ours to Python", || with_python_server(our_client)));
            pairs.push(("Python to Python", || with_python_server(python_client)));
        }
        _ => println!("skipped: needs python3: the pairs with Python"),
    }
    let mut all: Vec<Vec<RoundTrips>> = vec![Vec::new(); pairs.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in pairs.iter().zip(&mut all) {
            times.push(run());
        }
    }
    let medians: Vec<RoundTrips> = all
        .iter()
        .map(|rounds| {
            std::array::from_fn(|i| median(rounds.iter().map(|times| times[i]).collect()))
        })
        .collect();
    println!("round-trip times in ms, and as a multiple of bare sockets");
    print!("{:>18}", "bytes");
    LENS.iter().for_each(|len| print!("{len:>16}"));
    println!();
    for ((name, _), times) in pairs.iter().zip(&medians) {
        print!("{name:>18}");
        for (time, floor) in times.iter().zip(&medians[0]) {
            let (time, floor) = (time.as_secs_f64(), floor.as_secs_f64());
            print!("{:>9.3} {:>5.1}x", time * 1e3, time / floor);
        }
        println!();
    }
}
