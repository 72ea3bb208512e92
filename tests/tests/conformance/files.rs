//! A server that is short of files: in a process of its own, so that no other test is.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use countersign_driver::services::Echo;
use countersign_host::{Address, ConnectionHandle, Streams};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::adapters::Adapter;
use crate::peer::Peer;
use crate::running::Setup;
use crate::ways::Way;
use crate::{PATIENCE, at_once, until};

on_every_adapter! {
    a_server_short_of_files_serves_whom_it_has_and_later_the_others,
}

/// How many of the crowd are at the end of the queue.
const LATE: usize = 10;
/// Set in the process that serves.
const SERVE: &str = "COUNTERSIGN_CONFORMANCE_SERVE";
/// What precedes its addresses, whatever else the process prints.
const AT: &str = "serves at ";
/// What it says when it has done as it was told.
const DONE: &str = "done";

fn a_server_short_of_files_serves_whom_it_has_and_later_the_others<A: Adapter>() {
    if let Some(files) = env::var_os(SERVE) {
        return serve::<A>(files.to_str().unwrap().parse().unwrap());
    }
    // This very test is known by the name of its thread.
    let test = thread::current().name().unwrap().to_owned();
    // A connection takes up to three files: whichever of them there is none for.
    at_once([60, 61, 62], |files| beside_a_server_with(*files, &test));
}

/// Has `test` serve in a process of its own, with so many files.
fn beside_a_server_with(files: u64, test: &str) {
    const CROWD: usize = 100;
    let mut child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(SERVE, files.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut stdin = child.stdin.take().unwrap();
    let mut turn = |lines: &mut BufReader<ChildStdout>| {
        writeln!(stdin).unwrap();
        while !lines.by_ref().lines().next().unwrap().unwrap().contains(DONE) {}
    };
    let addresses = [0, 1].map(|_| -> Address {
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it does not serve");
            if let Some((_, at)) = line.trim_end().split_once(AT) {
                return at.parse().unwrap();
            }
        }
    });
    for at in addresses {
        let ask = |peer: &Peer, message: &[u8]| {
            peer.send(message);
            assert_eq!(peer.read(message.len()), message);
        };
        let old = Peer::enter(&at);
        ask(&old, b"old");
        let mut crowd: Vec<_> = (0..CROWD).map(|_| Peer::connect(&at)).collect();
        // Of those at the end of the queue nobody can be let in.
        let late = crowd.split_off(CROWD - LATE);
        for _ in 0..10 {
            ask(&old, b"old");
        }
        assert!(!late.iter().any(is_greeted));
        // Files become free without a word to the server, which finds out by itself.
        let greeted = || crowd.iter().filter(|peer| is_greeted(peer)).count();
        let mut before = greeted();
        loop {
            thread::sleep(Duration::from_millis(300));
            match greeted() {
                now if now == before => break,
                now => before = now,
            }
        }
        turn(&mut lines);
        until("more are let in", || greeted() > before);
        drop(crowd);
        for peer in &late {
            let challenge = peer.read(32);
            peer.send(&crate::peer::answer(&challenge));
            ask(peer, b"late");
        }
        ask(&old, b"old");
        drop((old, late));
        turn(&mut lines);
    }
    drop(stdin);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
}

/// Whether its challenge is there.
fn is_greeted(peer: &Peer) -> bool {
    peer.0.set_nonblocking(true).unwrap();
    let there = peer.0.peek(&mut [std::mem::MaybeUninit::uninit()]);
    peer.0.set_nonblocking(false).unwrap();
    // Who cannot be served yet waits, and is not sent away.
    assert!(!matches!(there, Ok(0)), "the end");
    there.is_ok()
}

/// Serves until the end of our input, with so many files; has some of them open itself, and with each line
/// closes them or opens them again.
fn serve<A: Adapter>(files: u64) {
    const OWN: usize = 20;
    let own = || -> Vec<_> { (0..OWN).map_while(|_| File::open("/dev/null").ok()).collect() };
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).unwrap();
    let mut files_of_ours = own();
    let mut setup = Setup::new(Way::CHALLENGE);
    // No place is given back by itself.
    setup.config = |config| config.with_handshake_timeout(10 * PATIENCE);
    let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
    for at in &server.at {
        let mut out = std::io::stdout();
        // The harness may have begun this line.
        writeln!(out, "\n{AT}{at}").unwrap();
        out.flush().unwrap();
    }
    for line in std::io::stdin().lines() {
        line.unwrap();
        files_of_ours = if files_of_ours.is_empty() { own() } else { Vec::new() };
        println!("{DONE}");
    }
    until("all have left", || server.connection_limit.open() == 0);
}
