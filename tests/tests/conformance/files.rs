//! A server that is short of files: in a process of its own, so that no other test is.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use countersign_drive::Address;
use countersign_drive::Origin;
use countersign_drive::services::Echo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::adapters::Adapter;
use crate::peer::Peer;
use crate::running::Setup;
use crate::until;
use crate::ways::Way;

on_every_adapter! {
    a_server_short_of_files_serves_whom_it_has_and_later_the_others,
}

/// Set in the process that serves.
const SERVE: &str = "COUNTERSIGN_CONFORMANCE_SERVE";
/// What precedes its addresses, whatever else the process prints.
const AT: &str = "serves at ";

fn a_server_short_of_files_serves_whom_it_has_and_later_the_others<A: Adapter>() {
    const FILES: u64 = 60;
    const CROWD: usize = 100;
    if env::var_os(SERVE).is_some() {
        return serve::<A>(FILES);
    }
    // This very test, which is known by the name of its thread.
    let mut child = Command::new(env::current_exe().unwrap())
        .args([std::thread::current().name().unwrap(), "--exact", "--nocapture"])
        .env(SERVE, "")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let mut line = String::new();
        let at: Address = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it does not serve");
            if let Some((_, at)) = line.trim_end().split_once(AT) {
                break at.parse().unwrap();
            }
        };
        let ask = |peer: &Peer, message: &[u8]| {
            peer.send(message);
            assert_eq!(peer.read(message.len()), message);
        };
        let old = Peer::enter(&at);
        ask(&old, b"old");
        let mut crowd: Vec<_> = (0..CROWD).map(|_| Peer::connect(&at)).collect();
        // Of those at the end of the queue nobody can be let in.
        let late = crowd.split_off(CROWD - 10);
        for _ in 0..10 {
            ask(&old, b"old");
        }
        for peer in &late {
            peer.0.set_nonblocking(true).unwrap();
            assert!((&peer.0).read(&mut [0]).is_err());
            peer.0.set_nonblocking(false).unwrap();
        }
        drop(crowd);
        for peer in &late {
            let challenge = peer.read(32);
            peer.send(&crate::peer::answer(&challenge));
            ask(peer, b"late");
        }
        ask(&old, b"old");
    }
    drop(child.stdin.take());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
}

/// Serves until the end of our input, with so many files.
fn serve<A: Adapter>(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), ..limit }).unwrap();
    let server = Setup::new(Way::CHALLENGE).start::<A>(|_: &Origin, _| Echo);
    for at in &server.at {
        let mut out = std::io::stdout();
        // The harness may have begun this line.
        writeln!(out, "\n{AT}{at}").unwrap();
        out.flush().unwrap();
    }
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    until("all have left", || server.gate.open() == 0);
}
