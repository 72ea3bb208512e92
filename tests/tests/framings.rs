//! What all framings have in common, so that one application works with any.
#![allow(clippy::unwrap_used, clippy::panic)]

use countersign::{Config, Digest, Event, Framing, Instant, Protocol, Remaining, Role};
use countersign_tests::{FrameProtection, HonestPeer, Policy, Pools, SessionSpec, drain};

const NOW: Instant = Instant::EPOCH;

#[test]
fn chunk_followed_by_no_bytes_ends_its_message() {
    for spec in [
        SessionSpec::None(Framing::U32),
        SessionSpec::None(Framing::Multiprocessing),
        SessionSpec::Multiprocessing(Policy::Strict(Digest::Sha256), Framing::Multiprocessing),
        SessionSpec::Mutual(FrameProtection::Tags),
    ] {
        let config = spec.config(Role::Client, HonestPeer::HEARTBEAT);
        let sizes = (config.receive_len(), Config::MIN_BUFFER);
        let mut client = spec.session(Role::Client, &config, &Pools::default(), sizes);
        let (mut peer, _) = HonestPeer::connected(spec, &mut client);
        for chunk in [&b"a part"[..], b""] {
            client.split().1.send_chunk(chunk, Remaining::Bytes(0)).unwrap();
            let received = peer.receive(&drain(&mut client, NOW));
            let whole = Event::Chunk { first: true, remaining: Remaining::End };
            assert_eq!(received, [(whole, chunk.to_vec())]);
        }
        assert!(client.is_idle());
    }
}
