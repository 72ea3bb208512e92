//! Who breaks off, falls silent or talks nonsense inside TLS or instead of it, beside one who must not
//! notice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::{Error, Truncated};
use countersign_host::ProtocolFactory;

use super::inside::{Insider, What, clients, neighbour};
use super::{OURS, serve, with_certs};
use crate::common::{At, Server};
use crate::neighbour::Talk;
use crate::peer::{Peer, frame};
use crate::process::at_once;

/// A server of one worker and of two, inside TLS, with a neighbour who must be served well while
/// `attack` goes on.
fn beside_a_neighbour(what: What, attack: impl Fn(&Server, &At, &Arc<dyn ProtocolFactory>) + Sync) {
    let scheme = match what {
        What::None => "none",
        What::Mutual => "mutual",
    };
    at_once(["1", "2"], |workers| {
        let scratch = with_certs();
        let args = ["--scheme", scheme, "--workers", workers, "--handshake-timeout", "2"];
        let server = serve(&scratch, &[&args, &OURS[..]].concat());
        let clients = clients(&scratch, what);
        let neighbour = neighbour(&server.at[0], &clients);
        attack(&server, &server.at[0], &clients);
        neighbour.move_out();
    });
}

/// The type of the record that comes last, and that nothing comes behind it.
fn last_record(mut bytes: &[u8]) -> Option<u8> {
    let mut last = None;
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        last = Some(*kind);
        bytes = &rest[usize::from(*high) << 8 | usize::from(*low)..];
    }
    assert!(bytes.is_empty(), "half a record");
    last
}

const ALERT: u8 = 21;

#[test]
fn half_a_hello_and_silence_has_the_handshakes_deadline() {
    for what in [What::None, What::Mutual] {
        beside_a_neighbour(what, |server, at, clients| {
            let since = Instant::now();
            let silent = Peer::connect(at);
            let (half, bytes) = Insider::hello(at, &**clients);
            half.peer.send(&bytes[..bytes.len() / 2]);
            let (whole, bytes) = Insider::hello(at, &**clients);
            whole.peer.send(&bytes);
            let (three, bytes) = Insider::hello(at, &**clients);
            three.peer.send(&bytes[..3]);
            for (peer, plain) in
                [(silent, true), (half.peer, true), (three.peer, true), (whole.peer, false)]
            {
                // Who has not said enough to be answered is told nothing.
                let last = last_record(&peer.rest());
                assert_eq!(last.is_none(), plain, "{last:?}");
                assert!(since.elapsed() >= Duration::from_millis(1800), "{:?}", since.elapsed());
            }
            server.logged("reason=handshake-timeout");
        });
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    for what in [What::None, What::Mutual] {
        beside_a_neighbour(what, |_, at, clients| {
            let mut insider = Insider::connect(at, &**clients);
            insider.peer.0.set_tcp_nodelay(true).unwrap();
            insider.piece = 1;
            insider.until(Insider::is_in);
            assert_eq!(insider.ask(b"hello"), b"HELLO");
            insider.leave();
        });
    }
}

#[test]
fn garbage_is_answered_with_an_alert_and_the_end() {
    let hello = |length: [u8; 3]| [&[22, 3, 1, 0, 4, 1][..], &length].concat();
    let garbage = [
        b"GET / HTTP/1.1\r\nHost: countersign.example\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        vec![0; 1000],
        frame(b"hello"),
        // Application data before anything else.
        vec![23, 3, 3, 0, 5, 1, 2, 3, 4, 5],
        // A record longer than any.
        vec![22, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xfb],
        // An empty ClientHello.
        hello([0, 0, 0]),
        // The ClientHello of SSL 2.
        [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &[0; 37]].concat(),
    ];
    beside_a_neighbour(What::None, |server, at, _| {
        for bytes in &garbage {
            let peer = Peer::connect(at);
            peer.send(bytes);
            assert_eq!(last_record(&peer.rest()), Some(ALERT), "{bytes:?}");
        }
        server.logged("scheme=tls+none reason=tls-broken");
        // A hello that is announced as longer than may be: not waited for, and TLS has no word for it.
        let peer = Peer::connect(at);
        peer.send(&hello([0xff, 0xff, 0xff]));
        assert!(peer.rest().is_empty());
    });
}

#[test]
fn an_end_without_close_notify_is_told_apart_by_where_it_comes() {
    beside_a_neighbour(What::None, |server, at, clients| {
        let cut_off = |peer: &Peer, reason: &str| {
            peer.finish();
            // Its alert, or its close_notify, or nothing: in any case an end.
            peer.rest();
            let from = peer.0.local_addr().unwrap().as_socket().unwrap();
            server.logged(&format!("peer={from} scheme=tls+none reason={reason}"));
        };
        cut_off(&Peer::connect(at), "truncated-handshake");
        for part in [3, 40, usize::MAX] {
            let (insider, bytes) = Insider::hello(at, &**clients);
            insider.peer.send(&bytes[..bytes.len().min(part)]);
            cut_off(&insider.peer, "truncated-handshake");
        }
        let mut insider = Insider::enter(at, &**clients);
        assert_eq!(insider.ask(b"hello"), b"HELLO");
        cut_off(&insider.peer, "truncated-stream");

        let mut insider = Insider::enter(at, &**clients);
        insider.say_part(b"all", 2);
        insider.flush();
        cut_off(&insider.peer, "truncated-message");

        // Within a record.
        let mut insider = Insider::enter(at, &**clients);
        insider.say(b"hello");
        let record = insider.unsaid();
        insider.peer.send(&record[..record.len() - 1]);
        cut_off(&insider.peer, "truncated-stream");

        // Behind a whole message, with its answer under way.
        let mut insider = Insider::enter(at, &**clients);
        insider.say(b"hello");
        insider.flush();
        cut_off(&insider.peer, "truncated-stream");
    });
}

#[test]
fn what_was_changed_on_the_way_ends_its_own_connection() {
    beside_a_neighbour(What::None, |server, at, clients| {
        let mut insider = Insider::enter(at, &**clients);
        insider.say(b"hello");
        let mut record = insider.unsaid();
        *record.last_mut().unwrap() ^= 1;
        insider.peer.send(&record);
        assert!(matches!(insider.end(), Err(Error::Channel(_))), "{:?}", insider.over);
        server.logged("scheme=tls+none reason=tls-broken");
    });
}

#[test]
fn a_reset_at_any_stage_of_tls_harms_nobody_else() {
    for what in [What::None, What::Mutual] {
        beside_a_neighbour(what, |_, at, clients| {
            for _ in 0..3 {
                Peer::connect(at).reset();
                let (insider, bytes) = Insider::hello(at, &**clients);
                insider.peer.send(&bytes[..bytes.len() / 2]);
                insider.peer.reset();
                let (insider, bytes) = Insider::hello(at, &**clients);
                insider.peer.send(&bytes);
                insider.peer.reset();
                Insider::enter(at, &**clients).peer.reset();
                let mut insider = Insider::enter(at, &**clients);
                assert_eq!(insider.ask(b"hello"), b"HELLO");
                insider.peer.reset();
                // With answers on their way that nobody reads.
                let mut insider = Insider::enter(at, &**clients);
                for _ in 0..20 {
                    insider.say(&[b'x'; 10_000]);
                    insider.flush();
                }
                insider.peer.reset();
            }
        });
    }
}

#[test]
fn a_server_that_goes_away_is_missed() {
    let scratch = with_certs();
    let server = serve(&scratch, &[&["--scheme", "none"], &OURS[..]].concat());
    let mut insider = Insider::enter(&server.at[0], &*clients(&scratch, What::None));
    assert_eq!(insider.ask(b"hello"), b"HELLO");
    // Killed: nobody says close_notify.
    drop(server);
    assert_eq!(insider.end(), Err(Error::Truncated(Truncated::Stream)));
}
