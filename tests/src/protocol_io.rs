use countersign::{Event, Instant, Protocol};

use crate::{KeySet, candidates};

/// Passes `bytes` to `session` until it wants no more, answers its key requests, and consumes every
/// chunk. Returns the events and the chunk of each.
pub fn receive<M: Protocol + ?Sized>(
    session: &mut M,
    keys: &KeySet,
    mut bytes: &[u8],
    now: Instant,
) -> Vec<(Event, Vec<u8>)> {
    let mut received = Vec::new();
    loop {
        while let Ok(Some(event)) = session.poll_event(now) {
            if event == Event::KeyNeeded {
                let answer = candidates(keys, &session.key_request().unwrap());
                session.provide_key(answer, now).unwrap();
                continue;
            }
            received.push((event, session.split().0.to_vec()));
            session.consume(now);
        }
        let space = session.recv_space();
        let n = space.len().min(bytes.len());
        if n == 0 {
            session.handle_received(0, now);
            return received;
        }
        space[..n].copy_from_slice(&bytes[..n]);
        session.handle_received(n, now);
        bytes = &bytes[n..];
    }
}

/// Returns everything that `session` has to transmit.
pub fn drain<M: Protocol + ?Sized>(session: &mut M, now: Instant) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let bytes = session.poll_transmit(now).to_vec();
        if bytes.is_empty() {
            return sent;
        }
        session.handle_transmitted(bytes.len(), now);
        sent.extend(bytes);
    }
}
