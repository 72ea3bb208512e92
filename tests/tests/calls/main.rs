//! Calls in any order: no call panics, and what has become final stays final.
#![allow(clippy::unwrap_used, clippy::panic)]
mod call;
mod checked_session;
mod setup;

use countersign_tests::config;
use proptest::collection::vec;
use proptest::prelude::*;

use call::{Answer, Call, call};
use checked_session::CheckedSession;
use setup::setup;

proptest! {
    #![proptest_config(config(2500))]

    #[test]
    fn calls_in_any_order_keep_all_invariants(setup in setup(), calls in vec(call(), 0..150)) {
        let mut session = CheckedSession::new(setup);
        for call in &calls {
            session.call(call);
        }
        session.end();
    }

    /// Random calls rarely complete a handshake, so this test completes it first.
    #[test]
    fn calls_in_any_order_after_a_handshake_keep_all_invariants(
        setup in setup(),
        calls in vec(call(), 0..150),
    ) {
        let mut session = CheckedSession::new(setup);
        session.call(&Call::Bind(true));
        let step = [
            Call::PollEvent,
            Call::PollTransmit,
            Call::Transmitted(usize::MAX),
            Call::Read(usize::MAX, 0),
            Call::PollEvent,
            Call::ProvideKey(Answer::Right),
            Call::PollEvent,
        ];
        // Enough rounds for the longest handshake.
        for _ in 0..9 {
            if !session.established {
                step.iter().for_each(|call| session.call(call));
            }
        }
        for call in &calls {
            session.call(call);
        }
        session.end();
    }
}
