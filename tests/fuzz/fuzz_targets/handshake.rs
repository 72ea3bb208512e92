//! Each role of each scheme, against a stranger's bytes. The first byte says which, the second how
//! the rest is changed: they are the peer's bytes as they are, or what an honest peer would have
//! sent with some of its bytes changed. Nobody is authenticated whose bytes are not the honest
//! peer's, and how they are cut makes no difference.
#![no_main]

mod common;

use common::{EXPORTER, Speech, drain, hear, meet};
use countersign::{Error, Event, Instant, Protocol, Role};
use libfuzzer_sys::fuzz_target;

/// What came of it: whether it was established, and the error.
fn strike(speech: Speech, role: Role, bytes: &[u8], piece: usize) -> (bool, Option<Error>) {
    let (ring, now) = (speech.ring(), Instant::EPOCH);
    let mut session = speech.session(role, &speech.config(role), (0, 0));
    session.bind_channel(&EXPORTER, now);
    let (mut left, mut asked, mut steps) = (bytes, 0, 0);
    loop {
        steps += 1;
        assert!(steps < 4 * bytes.len() + 64, "more steps than bytes");
        match session.poll_event(now) {
            Ok(Some(Event::KeyNeeded)) => {
                asked += 1;
                assert!(asked <= 2, "asked again and again");
                let request = session.key_request().expect("what it is for");
                assert_eq!(request.role, role);
                let answer = ring.answer(&request);
                session.provide_key(answer, now).expect("the right kind");
                continue;
            }
            Ok(Some(Event::Established)) => return (true, None),
            Ok(Some(event)) => panic!("{event:?} within the handshake"),
            Ok(None) => {}
            Err(error) => {
                assert_eq!(session.poll_event(now), Err(error));
                assert!(session.peer().is_none());
                // The last word may still go out.
                assert!(drain(&mut session, now).len() < 256);
                assert!(session.is_done());
                return (false, Some(error));
            }
        }
        if !drain(&mut session, now).is_empty() {
            continue;
        }
        let space = session.recv_space();
        assert!(!space.is_empty(), "it waits for nothing");
        let n = space.len().min(left.len()).min(piece);
        space[..n].copy_from_slice(&left[..n]);
        left = &left[n..];
        session.handle_received(n, now);
        if n == 0 {
            session.handle_eof(now);
        }
    }
}

/// What an honest peer sends until the handshake is over.
fn honest(speech: Speech, role: Role) -> Vec<u8> {
    let (ring, now) = (speech.ring(), Instant::EPOCH);
    let mut tested = speech.session(role, &speech.config(role), (0, 0));
    tested.bind_channel(&EXPORTER, now);
    let mut peer = speech.peer(role);
    let mut said = Vec::new();
    while tested.peer().is_none() || peer.peer().is_none() {
        let bytes = drain(&mut peer, now);
        hear(&mut tested, &ring, &bytes, now, &mut Vec::new()).expect("an honest handshake");
        said.extend(bytes);
        let bytes = drain(&mut tested, now);
        hear(&mut peer, &ring, &bytes, now, &mut Vec::new()).expect("an honest handshake");
    }
    meet(&mut tested, &mut peer, &ring);
    said
}

fuzz_target!(|input: &[u8]| {
    let [which, how, rest @ ..] = input else { return };
    let role = if how & 1 == 0 { Role::Client } else { Role::Server };
    let speech = Speech::numbered(*which);
    let right = honest(speech, role);
    let stream = if how & 2 == 0 {
        rest.to_vec()
    } else {
        // Places and what is done there, and then what comes behind.
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
    let (established, error) = strike(speech, role, &stream, usize::MAX);
    assert_eq!(established, error.is_none());
    if speech.proves_to(role) {
        assert_eq!(established, speech.proves(role, &right, &stream), "without the key");
    }
    for piece in [1, 7] {
        assert_eq!(strike(speech, role, &stream, piece), (established, error));
    }
});
