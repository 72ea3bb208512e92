//! What connections cost a server inside TLS. Prints it.

use std::sync::Arc;

use countersign_host::ProtocolFactory;

use super::inside::{Insider, What, clients};
use super::{OURS, serve, with_certs};
use crate::common::{At, Server, allow_files};
use crate::neighbour::Talk;
use crate::peer::Peer;
use crate::process::at_once;

const HELD: usize = 2_000;
/// The most that one may cost that is let in and has nothing to say, in bytes.
const IDLE: u64 = 16 << 10;
/// The most that a stranger may.
const STRANGER: u64 = 96 << 10;

/// How a stranger comes to be.
type Make<'a> = dyn Fn(&At, &Arc<dyn ProtocolFactory>) -> Peer + 'a;

/// What each of as many as `HELD` made by `make` costs, once all it said has been looked at.
fn cost<T>(what: What, make: impl Fn(&At, &Arc<dyn ProtocolFactory>) -> T) -> u64 {
    let scheme = if what == What::Mutual { "mutual" } else { "none" };
    let scratch = with_certs();
    // None is to be late while the others come.
    let args = ["--scheme", scheme, "--handshake-timeout", "600", "--max-handshakes", "11000"];
    // Not that of a thread for each.
    let server = serve(&scratch, &[&args, &OURS[..], &["--adapter", "mio"]].concat());
    let (at, clients) = (&server.at[0], clients(&scratch, what));
    // Pays for what every server needs, and hears all that was said before it speaks.
    let mut first = Insider::enter(at, &*clients);
    assert_eq!(first.ask(b"first"), b"FIRST");
    let one = make(at, &clients);
    let before = settled(&server, &mut first);
    let all: Vec<T> = (0..HELD).map(|_| make(at, &clients)).collect();
    let each = settled(&server, &mut first).saturating_sub(before) / HELD as u64;
    drop((one, all));
    first.leave();
    each
}

/// The server's memory when all that has come has been looked at: it gives everyone a turn before it
/// gives anyone another.
fn settled(server: &Server, asking: &mut Insider) -> u64 {
    for _ in 0..10 {
        assert_eq!(asking.ask(b"and now"), b"AND NOW");
    }
    server.memory()
}

fn idle(what: What) -> u64 {
    cost(what, |at, clients| {
        let mut insider = Insider::enter(at, &**clients);
        assert_eq!(insider.ask(b"hello"), b"HELLO");
        // A long record leaves nothing behind either, though it be the last.
        assert_eq!(insider.ask(&[b'a'; 16_000]), [b'A'; 16_000]);
        insider
    })
}

/// A stranger that says the client's side of the handshake but for its last byte.
fn all_but_finished(at: &At, clients: &Arc<dyn ProtocolFactory>) -> Peer {
    let (mut insider, hello) = Insider::hello(at, &**clients);
    insider.peer.send(&hello);
    let mut flight = Vec::new();
    // With its certificate and more, and not the six bytes before that mean nothing.
    while flight.len() < 300 {
        insider.read();
        flight.extend(insider.unsaid());
    }
    insider.peer.send(&flight[..flight.len() - 1]);
    insider.peer
}

/// A handshake's message that goes on for as long as one may.
fn endless() -> Vec<u8> {
    let mut message = vec![1, 0, 0xff, 0xf0];
    message.resize(0xfff0, 0);
    let records = message.chunks(1 << 14);
    records
        .flat_map(|part| [&[22, 3, 1], &(part.len() as u16).to_be_bytes()[..], part].concat())
        .collect()
}

#[test]
fn thousands_inside_tls_cost_little_whether_they_are_let_in_or_not() {
    if !allow_files(HELD as u64 * 4 + 200) {
        return;
    }
    at_once([What::None, What::Mutual], |what| {
        let each = idle(what);
        println!("memory per idle connection inside TLS, {what:?}: {each} bytes");
        assert!(each <= IDLE, "{each} bytes");
    });
    let hello = |at: &At, clients: &Arc<dyn ProtocolFactory>, share: usize| {
        let (insider, hello) = Insider::hello(at, &**clients);
        insider.peer.send(&hello[..hello.len() / share]);
        insider.peer
    };
    let strangers: [(&str, &Make<'_>); 5] = [
        ("that says nothing", &|at, _| Peer::connect(at)),
        ("with half a ClientHello", &|at, clients| hello(at, clients, 2)),
        ("with a ClientHello", &|at, clients| hello(at, clients, 1)),
        ("short of Finished", &|at, clients| all_but_finished(at, clients)),
        ("with an endless message", &|at, _| {
            let peer = Peer::connect(at);
            peer.send(&endless());
            peer
        }),
    ];
    for (who, stranger) in strangers {
        let each = cost(What::Mutual, stranger);
        println!("memory per stranger inside TLS {who}: {each} bytes");
        assert!(each <= STRANGER, "{each} bytes");
    }
}
