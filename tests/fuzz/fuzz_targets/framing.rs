//! The decoder of each framing, in an established session. An honest peer sends the frames that the
//! fuzzer chooses, and the fuzzer changes them in transit. Tagged frames deliver what the peer
//! sent, up to the first change.
#![no_main]

mod common;

use arbitrary::Arbitrary;
use common::{EXPORTER, HEARTBEAT, SessionSpec, connect, drain, receive};
use countersign::{CloseReason, Error, Event, Instant, Protocol, Remaining, Role};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Setup {
    spec: SessionSpec,
    server: bool,
    max_frame: u16,
    receive: u8,
    send: u8,
    piece: u8,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// The peer's next frames arrive.
    Message(&'a [u8]),
    Chunk(&'a [u8]),
    Ping,
    Finish,
    Close,
    /// Changes the frames in transit: flips bits, drops or repeats them, or inserts bytes.
    Flip(u16, u8),
    Drop,
    Repeat,
    Bytes(&'a [u8]),
}

fuzz_target!(|input: (Setup, Vec<Step<'_>>)| {
    let (setup, steps) = input;
    let (spec, keys) = (setup.spec, setup.spec.keys());
    let role = if setup.server { Role::Server } else { Role::Client };
    let mut config = spec.config(role);
    if !spec.is_mutual() {
        config = config.with_max_frame(setup.max_frame.into());
    }
    let mut tested = spec.session(role, &config, (setup.receive.into(), setup.send.into()));
    let mut now = Instant::EPOCH;
    tested.bind_channel(&EXPORTER, now);
    let mut peer = spec.peer(role);
    connect(&mut tested, &mut peer, &keys);

    // The peer's payload, the bytes that arrive, and whether they were changed.
    let (mut sent, mut wire, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    let mut changed = false;
    for step in steps {
        match step {
            Step::Message(bytes) => {
                let mut out = peer.split().1;
                if out.send(bytes).is_ok() {
                    sent.extend_from_slice(bytes);
                }
            }
            Step::Chunk(bytes) => {
                let mut out = peer.split().1;
                if out.send_chunk(bytes, Remaining::Unknown).is_ok() {
                    sent.extend_from_slice(bytes);
                }
            }
            Step::Ping => {
                now = now.saturating_add(HEARTBEAT);
                peer.handle_timeout(now);
            }
            Step::Finish => peer.finish(now),
            Step::Close => peer.abort(CloseReason::Application, now),
            Step::Flip(at, bits) => {
                let len = waiting.len();
                if len > 0 {
                    let byte: &mut u8 = &mut waiting[usize::from(at) % len];
                    *byte ^= bits;
                    changed |= bits > 0;
                }
                continue;
            }
            Step::Drop => {
                changed |= !waiting.is_empty();
                waiting.clear();
                continue;
            }
            // Bounded, because each repetition doubles the length.
            Step::Repeat if waiting.len() > 4096 => continue,
            Step::Repeat => {
                changed |= !waiting.is_empty();
                waiting.extend_from_within(..);
                continue;
            }
            Step::Bytes(bytes) => {
                changed |= !bytes.is_empty();
                waiting.extend_from_slice(bytes);
                continue;
            }
        }
        // The newest frames can still be changed; those before are final.
        wire.append(&mut waiting);
        waiting = drain(&mut peer, now);
    }
    wire.append(&mut waiting);

    let (mut received, mut left, mut steps) = (Vec::new(), &wire[..], 0);
    let (mut finished, mut in_message) = (false, false);
    let error = loop {
        steps += 1;
        assert!(steps < 4 * wire.len() + 64, "more steps than bytes");
        match tested.poll_event(now) {
            Ok(Some(Event::Chunk { first, remaining })) => {
                assert!(!finished);
                if spec.is_mutual() {
                    assert_eq!(first, !in_message, "the start of a message");
                    in_message = remaining != Remaining::End;
                }
                let (chunk, out) = tested.split();
                assert!(chunk.len() <= out.max_chunk());
                received.extend_from_slice(chunk);
                tested.consume(now);
                continue;
            }
            Ok(Some(Event::PeerFinished)) => {
                assert!(!finished && !in_message);
                finished = true;
                continue;
            }
            Ok(Some(event)) => panic!("{event:?}"),
            Ok(None) => {}
            Err(error) => break Some(error),
        }
        let space = tested.recv_space();
        if space.is_empty() {
            break None;
        }
        let n = space.len().min(left.len()).min(usize::from(setup.piece) + 1);
        space[..n].copy_from_slice(&left[..n]);
        left = &left[n..];
        tested.handle_received(n, now);
        if n == 0 {
            tested.handle_eof(now);
        }
    };
    if spec.is_tagged() {
        assert!(sent.starts_with(&received), "{received:?} is not what the peer sent");
        if let (false, Some(error)) = (changed, error) {
            let cut = matches!(error, Error::Truncated(_) | Error::PeerClosed(_));
            let fin_in_message = matches!(error, Error::Frame(countersign::FrameError::Order));
            assert!(cut || fin_in_message, "an honest peer failed: {error:?}");
        }
        assert!(changed || received == sent, "payload is missing");
    }
    // The honest peer accepts everything that the session sends.
    let answers = drain(&mut tested, now);
    match receive(&mut peer, &keys, &answers, now, &mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert!(!matches!(error, Error::Frame(_)), "{error:?}"),
    }
});
