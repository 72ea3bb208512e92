use super::pair::*;
use super::*;

const HEARTBEAT: u64 = 1_000_000;
const GIVEN_UP: u64 = 2 * HEARTBEAT + 5_000_000;

const SILENT: Error = Error::TimedOut(TimedOut::Peer);

fn beating() -> Config {
    sealed(mutual("server", 2).with_heartbeat(Duration::from_micros(HEARTBEAT)))
}

/// A client of a peer that says when it lives.
fn listening() -> (End, Rogue) {
    against(&client(), Role::Client, &beating())
}

#[test]
fn a_peer_that_has_shut_its_write_side_is_not_waited_for() {
    for told_first in [true, false] {
        let (mut end, mut peer) = listening();
        end.feed(&peer.frame(0x04, b""));
        if told_first {
            assert_eq!(end.events(), [Event::PeerFinished]);
            end.eof();
        } else {
            end.eof();
            assert_eq!(end.events(), [Event::PeerFinished]);
        }
        for n in 1..100 {
            end.at(n * HEARTBEAT);
            assert_eq!(end.events(), []);
            assert_eq!(peer.read(&end.sent()).len(), 1, "we go on");
        }
    }
}
