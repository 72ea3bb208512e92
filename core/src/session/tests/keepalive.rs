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

/// The frames that `end` sends, all of them PINGs; how many.
fn pings(peer: &mut Rogue, end: &mut End) -> usize {
    let frames = peer.read(&end.sent());
    assert!(frames.iter().all(|(kind, token)| *kind == 0x01 && token.len() == 8), "{frames:?}");
    frames.len()
}

#[test]
fn a_silent_end_gives_a_sign_of_life_every_heartbeat() {
    for role in [Role::Client, Role::Server] {
        let (mut end, mut peer) = match role {
            Role::Client => listening(),
            Role::Server => against(&beating(), role, &client()),
        };
        let mut tokens = Vec::new();
        for n in 1..=5 {
            assert_eq!(end.timeout(), Some(n * HEARTBEAT));
            end.at(n * HEARTBEAT - 1);
            assert!(!end.session.wants_write());
            end.at(n * HEARTBEAT);
            assert_eq!(end.events(), []);
            assert!(end.session.wants_write() && !end.session.is_idle());
            let frames = peer.read(&end.sent());
            assert_eq!((frames.len(), frames[0].0), (1, 0x01));
            assert!(!tokens.contains(&frames[0].1), "each differs from those before");
            tokens.push(frames[0].1.clone());
            assert!(!end.session.wants_write());
        }
    }
}

#[test]
fn whatever_is_sent_is_a_sign_of_life() {
    let (mut end, mut peer) = listening();
    end.at(HEARTBEAT - 1);
    end.send(b"message").unwrap();
    assert_eq!(end.timeout(), Some(HEARTBEAT), "it has not left");
    let mut sent = end.transmit(1);
    assert_eq!(end.timeout(), Some(2 * HEARTBEAT - 1), "some of it has");
    end.at(HEARTBEAT);
    sent.extend(end.sent());
    assert_eq!(peer.read(&sent), [(0x00, b"message".to_vec())]);
    assert_eq!(end.timeout(), Some(2 * HEARTBEAT));
    end.at(2 * HEARTBEAT);
    assert_eq!(pings(&mut peer, &mut end), 1);
    assert_eq!(end.timeout(), Some(3 * HEARTBEAT));
    // What is heard is none of ours.
    end.feed(&peer.frame(0x00, b"message"));
    assert_eq!(end.events(), [whole()]);
    end.consume();
    assert_eq!(end.timeout(), Some(3 * HEARTBEAT));
}

#[test]
fn where_something_waits_to_leave_no_ping_joins_it() {
    let (mut end, mut peer) = listening();
    end.send(b"waiting").unwrap();
    end.at(HEARTBEAT);
    assert_eq!(end.timeout(), Some(2 * HEARTBEAT));
    assert_eq!(peer.read(&end.sent()), [(0x00, b"waiting".to_vec())]);
    end.feed(&peer.frame(0x01, b"12345678"));
    assert_eq!(end.events(), []);
    end.at(2 * HEARTBEAT);
    assert_eq!(peer.read(&end.sent()), [(0x02, b"12345678".to_vec())]);
    // Nor a second one.
    end.at(3 * HEARTBEAT);
    end.at(4 * HEARTBEAT);
    assert_eq!(end.transmit(1).len(), 1);
    end.at(5 * HEARTBEAT);
    assert_eq!(end.sent().len(), 28);
}

#[test]
fn a_peer_of_which_nothing_is_heard_is_given_up_and_told() {
    for role in [Role::Client, Role::Server] {
        let (mut end, mut peer) = match role {
            Role::Client => listening(),
            Role::Server => against(&beating(), role, &client()),
        };
        for n in 1..=GIVEN_UP / HEARTBEAT - 1 {
            end.at(n * HEARTBEAT);
            assert_eq!(pings(&mut peer, &mut end), 1);
            assert_eq!(end.timeout(), Some((n + 1) * HEARTBEAT));
        }
        end.at(GIVEN_UP - 1);
        assert_eq!(end.events(), []);
        end.at(GIVEN_UP);
        assert_eq!(end.error(), SILENT);
        assert_eq!(peer.read(&end.sent()), [(0x05, vec![2])]);
        assert!(end.session.is_done());
        assert_eq!(end.timeout(), None);
    }
}

/// An end that would have given its peer up at this moment, had it not heard `bytes` just before.
fn heard(frames: impl Fn(&mut Rogue) -> Vec<u8>) -> End {
    let (mut end, mut peer) = listening();
    end.at(GIVEN_UP - 1);
    let bytes = frames(&mut peer);
    end.feed(&bytes);
    end.events();
    end.consume();
    end.events();
    end.at(GIVEN_UP);
    end
}

#[test]
fn any_frame_is_a_sign_of_life_and_half_of_one_is_none() {
    for kind in [0x00, 0x01, 0x02, 0x03, 0x40, 0xff] {
        let mut end = heard(|peer| peer.frame(kind, b"12345678"));
        assert_eq!(end.events(), [], "{kind}");
        end.sent();
        end.at(2 * GIVEN_UP - 2);
        assert_eq!(end.events(), []);
        end.at(2 * GIVEN_UP - 1);
        assert_eq!(end.error(), SILENT);
    }
    let mut end = heard(|peer| peer.frame(0x04, b""));
    assert_eq!(end.events(), []);
    let mut end = heard(|peer| peer.frame(0x00, b"12345678")[..28].to_vec());
    assert_eq!(end.error(), SILENT);
    let mut end = heard(|_| Vec::new());
    assert_eq!(end.error(), SILENT);
}

#[test]
fn a_read_of_nothing_is_no_sign_of_life() {
    let (mut end, _) = listening();
    for n in 1..GIVEN_UP / HEARTBEAT {
        end.at(n * HEARTBEAT);
        end.sent();
        end.offer(b"");
        assert_eq!(end.events(), []);
    }
    end.at(GIVEN_UP);
    assert_eq!(end.error(), SILENT);
}

#[test]
fn time_in_which_a_part_is_at_hand_is_not_the_peers() {
    let (mut end, mut peer) = listening();
    end.feed(&peer.frame(0x00, &[7; PART]));
    assert_eq!(end.events(), [whole()]);
    for n in 1..100 {
        end.at(n * HEARTBEAT);
        assert_eq!(end.events(), []);
        assert_eq!(pings(&mut peer, &mut end), 1, "we live all the same");
        assert_eq!(end.offer(b"x"), 0);
    }
    end.consume();
    end.at(99 * HEARTBEAT + GIVEN_UP - 1);
    assert_eq!(end.events(), []);
    end.at(99 * HEARTBEAT + GIVEN_UP);
    assert_eq!(end.error(), SILENT);
}

#[test]
fn what_is_read_behind_a_part_at_hand_starts_no_clock() {
    let (mut end, mut peer) = listening();
    end.feed(&peer.frame(0x00, b"first"));
    assert_eq!(end.events(), [whole()]);
    end.feed(&peer.frame(0x00, b"second"));
    end.at(GIVEN_UP);
    end.sent();
    assert_eq!(end.events(), []);
    end.consume();
    assert_eq!(end.events(), [whole()]);
}

#[test]
fn time_in_which_we_are_starved_is_not_the_peers() {
    let (mut end, mut peer) = listening();
    end.pools.receive.dry.set(true);
    for n in 1..100 {
        end.at(n * HEARTBEAT);
        assert_eq!(end.offer(b"x"), 0);
        assert!(end.session.awaiting_buffer());
        assert_eq!(end.events(), []);
        assert_eq!(pings(&mut peer, &mut end), 1);
    }
    end.pools.receive.dry.set(false);
    end.offer(b"");
    end.at(99 * HEARTBEAT + GIVEN_UP - 1);
    assert_eq!(end.events(), []);
    end.at(99 * HEARTBEAT + GIVEN_UP);
    assert_eq!(end.error(), SILENT);
}

#[test]
fn without_a_heartbeat_silence_is_no_matter() {
    let silent = sealed(mutual("server", 2).with_heartbeat(Duration::ZERO));
    for (mut end, mut peer) in
        [against(&client(), Role::Client, &silent), against(&silent, Role::Server, &client())]
    {
        assert_eq!(end.timeout(), None);
        end.at(u64::MAX - 1);
        end.feed(&peer.frame(0x01, b"12345678"));
        assert_eq!(end.events(), []);
        assert_eq!(peer.read(&end.sent()), [(0x02, b"12345678".to_vec())]);
        assert_eq!(end.timeout(), None);
    }
}

#[test]
fn at_the_end_of_time_no_timer_spins() {
    let (mut end, _) = listening();
    end.at(u64::MAX);
    assert_eq!(end.error(), SILENT);
    end.sent();
    assert_eq!(end.timeout(), None);
}

#[test]
fn an_end_that_failed_gives_no_more_signs_of_life() {
    let (mut end, mut peer) = listening();
    end.send(b"unread").unwrap();
    end.session.abort(CloseReason::Shutdown, end.now);
    assert_eq!(end.timeout(), None, "nobody has tried to send it");
    assert_eq!(end.transmit(3).len(), 3);
    assert_eq!(end.timeout(), Some(30_000_000));
    for n in 1..10 {
        end.at(n * HEARTBEAT);
    }
    end.feed(b"");
    peer.frame(0x01, b"12345678");
    // The first three bytes are gone, then comes the rest, and the reason.
    assert_eq!(end.sent().len(), 24 + 22);
    assert!(end.session.is_done());
    assert_eq!(end.timeout(), None);
}

#[test]
fn two_ends_that_say_nothing_live_for_ever() {
    let (mut client, mut server) = established(&client(), &beating());
    for n in 1..1_000 {
        for end in [&mut client, &mut server] {
            end.at(n * HEARTBEAT);
        }
        let (asked, also) = (client.sent(), server.sent());
        server.feed(&asked);
        client.feed(&also);
        assert_eq!((client.events(), server.events()), (vec![], vec![]));
        let (answered, also) = (client.sent(), server.sent());
        server.feed(&answered);
        client.feed(&also);
        assert_eq!((client.events(), server.events()), (vec![], vec![]));
        assert!(client.session.is_idle() && server.session.is_idle());
    }
}

#[test]
fn a_closed_session_waits_for_nothing() {
    let (mut end, mut peer) = listening();
    end.finish();
    assert_eq!(peer.read(&end.sent()), [(0x04, vec![])]);
    end.feed(&peer.frame(0x04, b""));
    assert_eq!(end.events(), [Event::PeerFinished, Event::Closed]);
    assert_eq!(end.offer(b"behind the end"), 0);
    assert_eq!(end.pools.held(), (0, 0, 0));
    end.session.handle_received(0, end.now);
    end.consume();
    assert_eq!(end.timeout(), None);
    end.at(GIVEN_UP);
    assert_eq!((end.events(), end.sent()), (vec![], vec![]));
}

#[test]
fn a_peer_that_ends_while_a_part_is_at_hand_is_not_waited_for() {
    let (mut end, mut peer) = listening();
    end.feed(&[peer.frame(0x00, b"last"), peer.frame(0x04, b"")].concat());
    assert_eq!(end.events(), [whole()]);
    end.eof();
    end.consume();
    assert_eq!(end.timeout(), Some(HEARTBEAT), "for our own sign of life");
    assert_eq!(end.events(), [Event::PeerFinished]);
    for n in 1..10 {
        end.at(n * HEARTBEAT);
        assert_eq!(pings(&mut peer, &mut end), 1);
        assert_eq!(end.events(), []);
    }
}
