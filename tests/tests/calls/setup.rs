//! The sessions under test, and the bytes of their peers.

use countersign::{Config, Digest, Role, Session};
use countersign_tests::{
    Cover, HonestPeer, PeerStream, Pools, Region, Speech, actions, framing, multiprocessing, role,
    tampered,
};
use proptest::prelude::*;
use proptest::sample::select;

const DIGEST: Digest = Digest::Sha256;
fn speech() -> impl Strategy<Value = Speech> {
    prop_oneof![
        framing().prop_map(Speech::None),
        framing().prop_map(|framing| Speech::Challenge(DIGEST, framing)),
        multiprocessing(),
        select(&Cover::ALL[..]).prop_map(Speech::Mutual),
        select(&Cover::ALL[..]).prop_map(Speech::Mutual),
    ]
}

pub(crate) fn session(speech: Speech, role: Role, pools: &Pools, bound: bool) -> Session<Region> {
    let config = speech.config(role, HonestPeer::HEARTBEAT).with_max_frame(140);
    let sizes = (config.receive_len() + 16, Config::MIN_BUFFER);
    if bound {
        speech.session(role, &config, pools, sizes)
    } else {
        speech.unbound_session(role, &config, pools, sizes)
    }
}

/// One endpoint and the bytes of its peer.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) speech: Speech,
    pub(crate) role: Role,
    /// What an honest peer sends during the handshake.
    pub(crate) handshake: Vec<u8>,
    pub(crate) stream: Vec<u8>,
}

pub(crate) fn setup() -> impl Strategy<Value = Setup> {
    (speech(), role(), actions()).prop_flat_map(|(speech, role, actions)| {
        let tested = session(speech, role, &Pools::default(), true);
        let PeerStream { bytes, handshake, .. } = HonestPeer::stream(speech, tested, &actions);
        let handshake = bytes[..handshake].to_vec();
        let stream = prop_oneof![3 => Just(bytes.clone()), 1 => tampered(bytes)];
        stream.prop_map(move |stream| Setup { speech, role, handshake: handshake.clone(), stream })
    })
}
