//! How long a message takes there and back, over TCP on this machine, in the scheme
//! `multiprocessing`: between ours and ours, ours and Python, Python and Python; and between two bare
//! sockets, the floor. A message of which TCP holds a part back takes 40 ms more than the others.
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
    Address, ClientOptions, KeyList, OutstandingChallenges, PeerAddr, PoolOptions, Pools,
    ServerOptions, SessionFactory,
};
use countersign_mio::Server;
use countersign_std::Client;

const SECRET: &str = "a key that is long enough for anyone";
/// Lengths of messages, in bytes.
const LENS: [usize; 7] = [64, 16_384, 16_385, 32_768, 65_536, 262_144, 1_000_000];
/// Messages of one length, one after the other.
const TIMES: usize = 40;
/// How often each pair has its turn.
const ROUNDS: usize = 5;

/// The time that a message of each length takes: the median of [`TIMES`].
type Times = [Duration; LENS.len()];

/// Two ends, and how to have them measured.
type Pair = (&'static str, fn() -> Times);

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Of `round_trip`, given a message.
fn measure(mut round_trip: impl FnMut(&[u8])) -> Times {
    LENS.map(|len| {
        let message = vec![b'x'; len];
        let time = |_| {
            let begun = Instant::now();
            round_trip(&message);
            begun.elapsed()
        };
        median((0..TIMES).map(time).collect())
    })
}

/// Two sockets that send a length and a message in one write, and nothing else.
fn floor() -> Times {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let echo = thread::spawn(move || {
        while let Some(frame) = receive(&mut server) {
            server.write_all(&frame).unwrap();
        }
    });
    let mut frame = Vec::new();
    let times = measure(|message| {
        frame.clear();
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(message);
        client.write_all(&frame).unwrap();
        assert_eq!(receive(&mut client).unwrap().len(), frame.len());
    });
    drop(client);
    echo.join().unwrap();
    times
}

/// A frame, its header included; `None` at the end of the stream.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
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

/// SessionFactory as if of another process than others.
fn sessions() -> SessionFactory {
    let scheme = Scheme::Multiprocessing(Multiprocessing::new(Digest::Sha256).compatible());
    let pools = Pools::new(&PoolOptions::default());
    SessionFactory::new(Config::new(scheme), pools).with_outstanding(OutstandingChallenges::new())
}

/// What our server, which echoes, is to `client`, told its port.
fn served(client: impl FnOnce(u16) -> Times) -> Times {
    let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
    let Address::Tcp { port, .. } = listeners[0].address().unwrap() else { unreachable!() };
    let options = ServerOptions::default();
    let open = |_: &PeerAddr, _| Echo;
    let mut server =
        Server::new(listeners, Arc::new(sessions()), Arc::new(keys()), open, options).unwrap();
    let remote = server.remote();
    let thread = thread::spawn(move || server.run());
    let times = client(port);
    remote.stop();
    thread.join().unwrap().unwrap();
    times
}

/// What our client sees of a server at `port`.
fn our_client(port: u16) -> Times {
    let address: Address = format!("127.0.0.1:{port}").parse().unwrap();
    let options = ClientOptions::default();
    let client = Client::connect(&address, &sessions(), &keys(), &options).unwrap();
    measure(|message| {
        client.send(message).unwrap();
        assert_eq!(client.recv().unwrap().unwrap().len(), message.len());
    })
}

fn python(role: &str, port: u16) -> Child {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/multiprocessing_echo.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(program).args([role, &port.to_string(), SECRET, &TIMES.to_string()]);
    command.args(LENS.map(|len| len.to_string())).stdout(Stdio::piped()).spawn().unwrap()
}

/// The next number that `child` prints.
fn number(lines: &mut impl BufRead) -> f64 {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    line.trim().parse().unwrap()
}

/// What Python's client sees of a server at `port`.
fn python_client(port: u16) -> Times {
    let mut child = python("client", port);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let times = LENS.map(|_| Duration::from_secs_f64(number(&mut lines)));
    assert!(child.wait().unwrap().success());
    times
}

/// What Python's server is to `client`, told its port.
fn python_serves(client: impl FnOnce(u16) -> Times) -> Times {
    let mut child = python("server", 0);
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let times = client(number(&mut lines) as u16);
    assert!(child.wait().unwrap().success());
    times
}

fn main() {
    // Asked to run as a test, it has nothing to say.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let mut pairs: Vec<Pair> =
        vec![("bare sockets", floor), ("ours to ours", || served(our_client))];
    match Command::new("python3").arg("--version").output() {
        Ok(version) if version.status.success() => {
            println!("{}", String::from_utf8_lossy(&version.stdout).trim());
            pairs.push(("Python to ours", || served(python_client)));
            pairs.push(("ours to Python", || python_serves(our_client)));
            pairs.push(("Python to Python", || python_serves(python_client)));
        }
        _ => println!("left out: Python, for there is no python3"),
    }
    let mut all: Vec<Vec<Times>> = vec![Vec::new(); pairs.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in pairs.iter().zip(&mut all) {
            times.push(run());
        }
    }
    let medians: Vec<Times> = all
        .iter()
        .map(|rounds| {
            std::array::from_fn(|i| median(rounds.iter().map(|times| times[i]).collect()))
        })
        .collect();
    println!("there and back, in ms, and as a multiple of bare sockets");
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
