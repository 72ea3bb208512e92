//! Accepted chunks are sent whole and in order, whatever else is called in between.
#![allow(clippy::unwrap_used, clippy::panic)]
mod call;
mod sender;

use countersign::Protocol;
use countersign_tests::{FrameProtection, SessionSpec, config, framing, multiprocessing, role};
use proptest::prelude::*;
use proptest::sample::select;

use call::{Call, calls};
use sender::Sender;

fn session_spec() -> impl Strategy<Value = SessionSpec> {
    prop_oneof![
        3 => framing().prop_map(SessionSpec::None),
        1 => multiprocessing(),
        3 => select(&FrameProtection::ALL[..]).prop_map(SessionSpec::Mutual),
    ]
}

proptest! {
    #![proptest_config(config(2500))]

    #[test]
    fn accepted_chunks_are_sent_whole_and_nothing_else_is(
        spec in session_spec(),
        role in role(),
        capacity in prop_oneof![Just(64_usize), 64..150_usize],
        calls in calls(),
    ) {
        let mut sender = Sender::new(spec, role, capacity);
        for call in &calls {
            sender.call(call);
        }
        sender.call(&Call::Exhausted(false));
        while sender.session.wants_write() {
            sender.call(&Call::Transmit(33));
        }
        sender.call(&Call::Poll);
        sender.call(&Call::Transmit(1));
        prop_assert_eq!(sender.pending(), 0);
        if spec.is_mutual() {
            prop_assert_eq!(&sender.payload_received, &sender.payload_sent);
        }
        prop_assert_eq!(sender.promised, 0);
        prop_assert_eq!(sender.pools.held(), 0);
    }
}
