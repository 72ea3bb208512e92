//! The sessions under test, and the bytes of their peers.

use countersign::{Config, Digest, Role, Session};
use countersign_tests::{
    FrameProtection, HonestPeer, LeasedBuffer, PeerStream, Pools, SessionSpec, actions, framing,
    multiprocessing, role, tampered,
};
use proptest::prelude::*;
use proptest::sample::select;

const DIGEST: Digest = Digest::Sha256;
fn session_spec() -> impl Strategy<Value = SessionSpec> {
    prop_oneof![
        framing().prop_map(SessionSpec::None),
        framing().prop_map(|framing| SessionSpec::Challenge(DIGEST, framing)),
        multiprocessing(),
        select(&FrameProtection::ALL[..]).prop_map(SessionSpec::Mutual),
        select(&FrameProtection::ALL[..]).prop_map(SessionSpec::Mutual),
    ]
}

pub(crate) fn session(
    spec: SessionSpec,
    role: Role,
    pools: &Pools,
    bound: bool,
) -> Session<LeasedBuffer> {
    let config = spec.config(role, HonestPeer::HEARTBEAT).with_max_frame(140);
    let sizes = (config.receive_len() + 16, Config::MIN_BUFFER);
    if bound {
        spec.session(role, &config, pools, sizes)
    } else {
        spec.unbound_session(role, &config, pools, sizes)
    }
}

/// One endpoint and the bytes of its peer.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) spec: SessionSpec,
    pub(crate) role: Role,
    /// What an honest peer sends during the handshake.
    pub(crate) handshake: Vec<u8>,
    pub(crate) stream: Vec<u8>,
}

pub(crate) fn setup() -> impl Strategy<Value = Setup> {
    (session_spec(), role(), actions()).prop_flat_map(|(spec, role, actions)| {
        let tested = session(spec, role, &Pools::default(), true);
        let PeerStream { bytes, handshake, .. } = HonestPeer::stream(spec, tested, &actions);
        let handshake = bytes[..handshake].to_vec();
        let stream = prop_oneof![3 => Just(bytes.clone()), 1 => tampered(bytes)];
        stream.prop_map(move |stream| Setup { spec, role, handshake: handshake.clone(), stream })
    })
}
