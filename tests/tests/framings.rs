//! What all framings have in common, so that one application works with any.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Config, Digest, Event, Framing, Instant, Protocol, Remaining, Role};
use countersign_tests::{Cover, HonestPeer, Policy, Pools, Speech, drain};

const NOW: Instant = Instant::EPOCH;

#[test]
fn chunk_followed_by_no_bytes_ends_its_message() {
    for speech in [
        Speech::None(Framing::U32),
        Speech::None(Framing::Multiprocessing),
        Speech::Multiprocessing(Policy::Strict(Digest::Sha256), Framing::Multiprocessing),
        Speech::Mutual(Cover::Tags),
    ] {
        let config = speech.config(Role::Client, HonestPeer::HEARTBEAT);
        let sizes = (config.receive_len(), Config::MIN_BUFFER);
        let mut client = speech.session(Role::Client, &config, &Pools::default(), sizes);
        let (mut peer, _) = HonestPeer::connected(speech, &mut client);
        for chunk in [&b"a part"[..], b""] {
            client.split().1.send_chunk(chunk, Remaining::Bytes(0)).unwrap();
            let received = peer.receive(&drain(&mut client, NOW));
            let whole = Event::Chunk { first: true, remaining: Remaining::End };
            assert_eq!(received, [(whole, chunk.to_vec())]);
        }
        assert!(client.is_idle());
    }
}
