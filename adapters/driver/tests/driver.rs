//! Events of a driver.

#![cfg(test)]

#[path = "support/pair.rs"]
mod pair;

use countersign::{CloseReason, Error, Event, Instant, Remaining, Role, TimedOut};
use countersign_driver::{Driver, Failure, NoKeys, Progress};
use pair::{Broken, Framed, Side, at, ends, established, key, session};

const BUFFER: usize = 512;

/// Polls until the next event; `None` if it waits.
fn event(side: &mut Side, now: Instant) -> Option<Event> {
    loop {
        match side.poll(now) {
            Progress::Event(event) => return Some(event),
            Progress::Wait(_) => return None,
            Progress::Yield => {}
            Progress::Closed(result) => panic!("closed: {result:?}"),
        }
    }
}

fn closed(side: &mut Side, now: Instant) -> Result<(), Failure<Broken>> {
    match side.poll(now) {
        Progress::Closed(result) => result,
        other => panic!("expected Closed, got {other:?}"),
    }
}

#[test]
fn events_come_in_the_order_of_the_stream() {
    let (up, down) = ends();
    let side = |role, io| {
        let driver = Driver::new(session(role, Framed::Unannounced, BUFFER));
        Side { driver, io }
    };
    let (mut client, mut server) = (side(Role::Client, up), side(Role::Server, down));
    assert_eq!(event(&mut server, at(0)), None);
    assert_eq!(event(&mut client, at(0)), None);
    assert!(server.driver.peer().is_none());
    assert_eq!(event(&mut server, at(0)), Some(Event::Established));
    assert!(server.driver.is_established() && server.driver.split_peer().is_some());
    server.settle(at(0));
    assert_eq!(event(&mut client, at(0)), Some(Event::Established));
    client.outbox().send_chunk(b"first", Remaining::More).unwrap();
    client.outbox().send_chunk(b"rest", Remaining::End).unwrap();
    client.outbox().finish();
    client.settle(at(0));
    let chunk = |first, remaining| Some(Event::Chunk { first, remaining });
    assert_eq!(event(&mut server, at(0)), chunk(true, Remaining::More));
    // The chunk stays at hand until it is consumed.
    assert_eq!(event(&mut server, at(0)), None);
    let at_hand = server.driver.chunk().unwrap();
    assert_eq!((at_hand.bytes, at_hand.first, at_hand.is_last()), (&b"first"[..], true, false));
    server.driver.consume(at(0));
    assert!(server.driver.chunk().is_none());
    assert_eq!(event(&mut server, at(0)), chunk(false, Remaining::End));
    server.driver.consume(at(0));
    assert_eq!(event(&mut server, at(0)), Some(Event::PeerFinished));
    assert_eq!(event(&mut server, at(0)), None);
    server.outbox().finish();
    assert_eq!(event(&mut server, at(0)), Some(Event::Closed));
    assert!(!server.driver.is_open() && server.driver.error().is_none());
}

#[test]
fn writable_follows_a_full_outbox_once() {
    let (mut client, mut server) = established(Framed::Announced, BUFFER);
    client.io.output.borrow_mut().capacity = 0;
    pair::fill(&mut client.outbox());
    assert_eq!(event(&mut client, at(0)), None);
    client.io.output.borrow_mut().capacity = usize::MAX;
    assert_eq!(event(&mut client, at(0)), Some(Event::Writable));
    assert_eq!(event(&mut client, at(0)), None);
    assert!(matches!(event(&mut server, at(0)), Some(Event::Chunk { .. })));
}

#[test]
fn chunk_is_gone_after_a_failure() {
    for fail in [
        (|side: &mut Side| side.driver.abort(CloseReason::Application, at(0))) as fn(&mut Side),
        |side| {
            side.driver.abandon();
        },
        |side| {
            let _ = side.driver.transport_failed(Broken);
        },
    ] {
        let (mut client, mut server) = established(Framed::Announced, BUFFER);
        client.outbox().send(b"message").unwrap();
        client.settle(at(0));
        assert!(matches!(event(&mut server, at(0)), Some(Event::Chunk { .. })));
        fail(&mut server);
        let _ = server.poll(at(0));
        assert!(server.driver.chunk().is_none() && !server.driver.is_open());
        // Without effect.
        server.driver.consume(at(0));
    }
}

#[test]
fn error_is_known_before_the_connection_is_closed() {
    let (mut client, mut server) = established(Framed::Announced, BUFFER);
    server.outbox().send(b"last").unwrap();
    client.io.output.borrow_mut().bytes.extend([0xff; 4]);
    let error = Error::FrameTooLong { len: u32::MAX.into() };
    assert_eq!(event(&mut server, at(0)), None);
    assert_eq!(server.driver.error(), Some(error));
    assert!(server.io.output.borrow().shut);
    // What was queued went out.
    assert!(matches!(event(&mut client, at(0)), Some(Event::Chunk { .. })));
    server.io.input.borrow_mut().shut = true;
    assert_eq!(closed(&mut server, at(1)), Err(Failure::Protocol(error)));
    assert_eq!(server.driver.error(), Some(error));
}

#[test]
fn stop_waits_while_the_driver_is_busy() {
    let (mut client, mut server) = established(Framed::Unannounced, BUFFER);
    server.driver.set_busy(true);
    server.driver.stop();
    for now in [0, 100, 1_000] {
        assert_eq!(event(&mut server, at(now)), None);
        assert_eq!(event(&mut client, at(now)), None);
    }
    server.driver.set_busy(false);
    assert_eq!(server.settle(at(2_000)).until, Some(at(2_100)));
    assert_eq!(event(&mut client, at(2_000)), None);
    assert_eq!(event(&mut server, at(2_100)), None);
    assert_eq!(event(&mut client, at(2_100)), Some(Event::PeerFinished));
}

#[test]
fn unconsumed_chunk_keeps_a_stopped_connection_open() {
    let (mut client, mut server) = established(Framed::Unannounced, BUFFER);
    client.outbox().send(b"request").unwrap();
    client.settle(at(0));
    assert!(matches!(event(&mut server, at(0)), Some(Event::Chunk { .. })));
    server.driver.stop();
    for now in [0, 100, 1_000] {
        assert_eq!(event(&mut server, at(now)), None);
    }
    server.driver.consume(at(1_000));
    server.outbox().send(b"reply").unwrap();
    assert_eq!(server.settle(at(1_000)).until, Some(at(1_100)));
    assert!(matches!(event(&mut client, at(1_000)), Some(Event::Chunk { .. })));
}

#[test]
fn abandoned_driver_is_closed_without_a_result() {
    let (_client, mut server) = established(Framed::Unannounced, BUFFER);
    assert!(server.driver.abandon());
    assert!(!server.driver.abandon());
    assert_eq!(closed(&mut server, at(0)), Ok(()));
    assert!(server.driver.error().is_none());
}

#[test]
fn transport_error_between_polls_closes_the_connection() {
    let (_client, mut server) = established(Framed::Unannounced, BUFFER);
    let progress = server.driver.transport_failed(Broken);
    assert!(matches!(progress, Progress::Closed(Err(Failure::Io(Broken)))));
    assert!(matches!(server.driver.transport_failed(Broken), Progress::Closed(Ok(()))));

    // The error of the session is the one that counts.
    let (client, mut server) = established(Framed::Announced, BUFFER);
    client.io.output.borrow_mut().bytes.extend([0xff; 4]);
    assert_eq!(event(&mut server, at(0)), None);
    let progress = server.driver.transport_failed(Broken);
    let result = Err(Failure::Protocol(Error::FrameTooLong { len: u32::MAX.into() }));
    assert!(matches!(progress, Progress::Closed(it) if it == result));
}

#[test]
fn bytes_can_be_transmitted_between_polls() {
    let (mut client, mut server) = established(Framed::Announced, BUFFER);
    client.io.output.borrow_mut().capacity = 0;
    client.outbox().send(b"message").unwrap();
    assert!(client.settle(at(0)).write);
    let bytes = client.driver.transmit(at(0)).to_vec();
    client.io.output.borrow_mut().bytes.extend(&bytes);
    client.driver.handle_transmitted(bytes.len(), at(0));
    assert!(!client.settle(at(0)).write);
    assert!(matches!(event(&mut server, at(0)), Some(Event::Chunk { .. })));
    assert_eq!(server.driver.chunk().unwrap().bytes, b"message");
}

#[test]
fn session_without_keys_is_refused() {
    let (up, down) = ends();
    let mut server = Driver::new(session(Role::Server, Framed::Unannounced, BUFFER));
    let mut client = Driver::new(session(Role::Client, Framed::Unannounced, BUFFER));
    let (mut up, mut down) = (up, down);
    let _ = server.poll(&mut down, &NoKeys, at(0));
    let _ = client.poll(&mut up, &key(), at(0));
    let _ = server.poll(&mut down, &NoKeys, at(0));
    assert!(matches!(server.error(), Some(Error::Refused(_))), "{:?}", server.error());
}

#[test]
fn silent_handshake_times_out() {
    let (up, _down) = ends();
    let driver = Driver::new(session(Role::Client, Framed::Unannounced, BUFFER));
    let mut client = Side { driver, io: up };
    let until = client.settle(at(0)).until.unwrap();
    assert_eq!(event(&mut client, until), None);
    assert_eq!(client.driver.error(), Some(Error::TimedOut(TimedOut::Handshake)));
}
