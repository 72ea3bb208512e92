//! What framings have in common, so that one application runs on any.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Config, Digest, Event, Framing, Instant, Protocol, Remaining, Role};
use countersign_tests::{Cover, Honest, Policy, Pools, Speech, drain};

const NOW: Instant = Instant::EPOCH;

#[test]
fn a_part_that_no_bytes_follow_is_the_messages_last() {
    for speech in [
        Speech::None(Framing::U32),
        Speech::None(Framing::Multiprocessing),
        Speech::Multiprocessing(Policy::Strict(Digest::Sha256), Framing::Multiprocessing),
        Speech::Mutual(Cover::Tags),
    ] {
        let config = speech.config(Role::Client, Honest::HEARTBEAT);
        let sizes = (config.receive_len(), Config::MIN_BUFFER);
        let mut client = speech.end(Role::Client, &config, &Pools::default(), sizes);
        let (mut peer, _) = Honest::met(speech, &mut client);
        for chunk in [&b"a part"[..], b""] {
            client.split().1.send_chunk(chunk, Remaining::Bytes(0)).unwrap();
            let heard = peer.hear(&drain(&mut client, NOW));
            let whole = Event::Chunk { first: true, remaining: Remaining::End };
            assert_eq!(heard, [(whole, chunk.to_vec())]);
        }
        assert!(client.is_idle());
    }
}
