//! How sealed sessions end, and what they say last.

use super::pair::*;
use super::*;
use crate::error::BadFrame;

const DATA: u8 = 0x00;
const PING: u8 = 0x01;
const PONG: u8 = 0x02;
const FIN: u8 = 0x04;
const CLOSE: u8 = 0x05;

/// A server, and a client that may send anything.
fn serving() -> (End, Rogue) {
    against(&server(), Role::Server, &client())
}

fn says(peer: &mut Rogue, end: &mut End) -> Vec<(u8, Vec<u8>)> {
    peer.read(&end.sent())
}

#[test]
fn a_close_behind_both_ends_is_an_orderly_end() {
    for (owed, shown) in [(false, false), (true, false), (true, true)] {
        let (mut end, mut peer) = serving();
        end.finish();
        assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
        if owed {
            end.feed(&peer.frame(PING, b"12345678"));
            assert_eq!(end.events(), []);
        }
        if shown {
            assert_eq!(end.transmit(3).len(), 3);
            assert!(!end.shown().is_empty());
        }
        end.feed(&[peer.frame(FIN, b""), peer.frame(CLOSE, &[0])].concat());
        assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
        assert!(end.session.is_done() && end.session.wants_shutdown());
        assert!(!end.session.wants_write());
        end.session.handle_transmitted(9, end.now);
        assert_eq!(end.sent(), b"");
        assert_eq!(end.timeout(), None);
    }
}

#[test]
fn a_close_before_our_own_end_is_out_is_an_error() {
    for finished in [true, false] {
        let (mut end, mut peer) = serving();
        if finished {
            end.finish();
            assert!(end.transmit(20).len() == 20, "but for one byte");
        }
        end.feed(&[peer.frame(FIN, b""), peer.frame(CLOSE, &[0])].concat());
        assert_eq!(end.poll(), Ok(Some(Event::PeerFinished)));
        assert_eq!(end.error(), Error::PeerClosed(Reason::Shutdown));
        assert!(end.session.is_done());
        assert_eq!(end.sent(), b"");
    }
}

#[test]
fn a_close_before_the_peers_own_end_is_an_error() {
    let (mut end, mut peer) = serving();
    end.finish();
    assert_eq!(says(&mut peer, &mut end), [(FIN, vec![])]);
    end.feed(&peer.frame(CLOSE, &[0]));
    assert_eq!(end.error(), Error::PeerClosed(Reason::Shutdown));
}
