//! The handshake of each scheme in each role, with arbitrary bytes as the peer's.
//!
//! The first byte of the input selects the scheme, the second how the other bytes are used: as the
//! peer's bytes, or as changes of what an honest peer sends. Only the bytes of an honest peer
//! authenticate it, and chunking makes no difference.
#![no_main]

mod common;

use common::{EXPORTER, SessionSpec, connect, drain, receive};
use countersign::{Error, Event, Instant, Protocol, Role};
use libfuzzer_sys::fuzz_target;

/// Runs a session on `bytes`, in chunks of up to `chunk` bytes. Returns whether it was established,
/// and its error.
fn run(spec: SessionSpec, role: Role, bytes: &[u8], chunk: usize) -> (bool, Option<Error>) {
    let (keys, now) = (spec.keys(), Instant::EPOCH);
    let mut session = spec.session(role, &spec.config(role), (0, 0));
    session.bind_channel(&EXPORTER, now);
    let (mut remaining, mut keys_requested, mut steps) = (bytes, 0, 0);
    loop {
        steps += 1;
        assert!(steps < 4 * bytes.len() + 64, "more steps than bytes");
        match session.poll_event(now) {
            Ok(Some(Event::KeyNeeded)) => {
                keys_requested += 1;
                assert!(keys_requested <= 2, "more than two key requests");
                let request = session.key_request().expect("a request");
                assert_eq!(request.role, role);
                let answer = keys.answer(&request);
                session.provide_key(answer, now).expect("a key of the right purpose");
                continue;
            }
            Ok(Some(Event::Established)) => return (true, None),
            Ok(Some(event)) => panic!("{event:?} within the handshake"),
            Ok(None) => {}
            Err(error) => {
                assert_eq!(session.poll_event(now), Err(error));
                assert!(session.peer().is_none());
                // An alert or a failure frame may still be sent.
                assert!(drain(&mut session, now).len() < 256);
                assert!(session.is_done());
                return (false, Some(error));
            }
        }
        if !drain(&mut session, now).is_empty() {
            continue;
        }
        let space = session.recv_space();
        assert!(!space.is_empty(), "it neither sends nor receives");
        let n = space.len().min(remaining.len()).min(chunk);
        space[..n].copy_from_slice(&remaining[..n]);
        remaining = &remaining[n..];
        session.handle_received(n, now);
        if n == 0 {
            session.handle_eof(now);
        }
    }
}

/// Returns what an honest peer sends during the handshake.
fn honest(spec: SessionSpec, role: Role) -> Vec<u8> {
    let (keys, now) = (spec.keys(), Instant::EPOCH);
    let mut tested = spec.session(role, &spec.config(role), (0, 0));
    tested.bind_channel(&EXPORTER, now);
    let mut peer = spec.peer(role);
    let mut sent = Vec::new();
    while tested.peer().is_none() || peer.peer().is_none() {
        let bytes = drain(&mut peer, now);
        receive(&mut tested, &keys, &bytes, now, &mut Vec::new()).expect("an honest handshake");
        sent.extend(bytes);
        let bytes = drain(&mut tested, now);
        receive(&mut peer, &keys, &bytes, now, &mut Vec::new()).expect("an honest handshake");
    }
    connect(&mut tested, &mut peer, &keys);
    sent
}

fuzz_target!(|input: &[u8]| {
    let [which, how, rest @ ..] = input else { return };
    let role = if how & 1 == 0 { Role::Client } else { Role::Server };
    let spec = SessionSpec::numbered(*which);
    let right = honest(spec, role);
    let stream = if how & 2 == 0 {
        rest.to_vec()
    } else {
        // Each change is an offset and a byte; an offset at the end truncates.
        let mut stream = right.clone();
        for change in rest.chunks_exact(3).take(usize::from(how >> 4)) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % (stream.len() + 1);
            match stream.get_mut(at) {
                Some(byte) => *byte ^= change[2],
                None => stream.truncate(usize::from(change[2])),
            }
        }
        stream
    };
    let (established, error) = run(spec, role, &stream, usize::MAX);
    assert_eq!(established, error.is_none());
    if spec.authenticates_peer(role) {
        assert_eq!(
            established,
            spec.must_accept(role, &right, &stream),
            "authenticated without the key"
        );
    }
    for chunk in [1, 7] {
        assert_eq!(run(spec, role, &stream, chunk), (established, error));
    }
});
