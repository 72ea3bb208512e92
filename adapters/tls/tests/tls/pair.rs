//! Two ends inside TLS, in memory.

use countersign::{Error, Remaining, TimedOut, Truncated};
use countersign_tls::TlsError;

use crate::ends::{Inside, link};

#[test]
fn every_scheme_talks_inside_tls_however_its_bytes_are_cut() {
    for inside in Inside::ALL {
        for chunk in [1, 7, 1000, usize::MAX] {
            let mut link = link(inside);
            link.chunk = chunk;
            link.run();
            assert!(link.is_open(), "{inside:?} {chunk}");
            for end in [&link.client, &link.server] {
                assert!(end.machine.peer().unwrap().authenticated, "{inside:?}");
                assert!(end.machine.is_idle(), "{inside:?}");
            }
            link.client.out().send(b"hello").unwrap();
            link.run();
            assert_eq!(link.client.heard, b"HELLO", "{inside:?} {chunk}");
            link.client.machine.finish(link.client.now);
            link.run();
            assert_eq!(link.client.over, Some(Ok(())), "{inside:?} {chunk}");
            assert_eq!(link.server.over, Some(Ok(())), "{inside:?} {chunk}");
            assert!(link.client.machine.is_done() && link.server.machine.is_done());
        }
    }
}

#[test]
fn long_messages_come_back_whole() {
    for inside in Inside::ALL {
        let mut link = link(inside);
        link.run();
        let message: Vec<u8> = (0..300_000_u32).map(|i| b'a' + (i % 26) as u8).collect();
        let mut left = &message[..];
        while !left.is_empty() {
            let mut out = link.client.out();
            let (part, more) = left.split_at(left.len().min(out.max_chunk()));
            let remaining =
                if more.is_empty() { Remaining::End } else { Remaining::Bytes(more.len() as u64) };
            match out.send_chunk(part, remaining) {
                Ok(()) => left = more,
                Err(countersign::SendError::Full) => link.run(),
                Err(error) => panic!("{error}"),
            }
        }
        link.run();
        assert_eq!(link.client.heard, message.to_ascii_uppercase(), "{inside:?}");
    }
}

#[test]
fn nothing_but_tls_is_said_before_its_handshake_is_over() {
    let mut link = link(Inside::None);
    let mut said = link.client.said(usize::MAX);
    // A record of the handshake, with a ClientHello.
    assert_eq!((said[0], said[5]), (22, 1));
    assert!(link.server.said(usize::MAX).is_empty());
    said.truncate(said.len() / 2);
    link.server.hears(&said);
    link.server.poll();
    assert!(!link.server.established && link.server.over.is_none());
    assert!(link.server.said(usize::MAX).is_empty());
}

#[test]
fn an_end_without_close_notify_is_a_truncation_wherever_it_comes() {
    for inside in Inside::ALL {
        let mut at_once = link(inside);
        at_once.server.ends();
        at_once.server.poll();
        assert_eq!(at_once.server.error(), Error::Truncated(Truncated::Handshake), "{inside:?}");

        let mut between = link(inside);
        between.run();
        between.server.ends();
        between.server.poll();
        assert_eq!(between.server.error(), Error::Truncated(Truncated::Stream), "{inside:?}");
        assert!(between.server.heard.is_empty() && !between.server.finished);
    }
    let mut within = link(Inside::None);
    within.run();
    within.client.out().send_chunk(b"half", Remaining::Bytes(4)).unwrap();
    within.run();
    within.server.ends();
    within.server.poll();
    assert_eq!(within.server.error(), Error::Truncated(Truncated::Message));
}

#[test]
fn garbage_is_no_tls_and_is_told_so() {
    let mut link = link(Inside::Mutual);
    link.server.hears(b"GET / HTTP/1.1\r\n\r\n");
    link.server.poll();
    assert_eq!(link.server.error(), Error::from(TlsError::Broken));
    // Its alert.
    assert_eq!(link.server.said(usize::MAX)[0], 21);
    assert!(link.server.machine.is_done());
}

#[test]
fn a_changed_byte_ends_either_side() {
    for inside in Inside::ALL {
        let mut link = link(inside);
        link.run();
        link.client.out().send(b"hello").unwrap();
        let mut record = link.client.said(usize::MAX);
        *record.last_mut().unwrap() ^= 1;
        link.server.hears(&record);
        link.server.poll();
        assert_eq!(link.server.error(), Error::from(TlsError::Broken), "{inside:?}");
        assert!(link.server.heard.is_empty());
        // Who changed it is told nothing that the other end does not check.
        link.run();
        assert_eq!(link.client.error(), Error::from(TlsError::Alert(20)), "{inside:?}");
    }
}

#[test]
fn a_last_word_that_nobody_reads_is_dropped_after_a_second() {
    let mut link = link(Inside::Mutual);
    link.server.hears(b"garbage, and more of it");
    link.server.poll();
    assert!(link.server.machine.wants_write() && !link.server.machine.is_done());
    assert!(!link.server.machine.poll_transmit(link.server.now).is_empty());
    link.server.at(1);
    assert!(link.server.machine.is_done() && !link.server.machine.wants_write());
}

#[test]
fn an_end_that_failed_says_no_close_notify_and_its_peer_knows() {
    let mut link = link(Inside::None);
    link.run();
    // Longer than it takes.
    link.client.out().send_chunk(b"x", Remaining::Bytes(u64::from(u32::MAX) - 1)).unwrap();
    link.run();
    assert_eq!(link.server.error(), Error::FrameTooLong { len: u64::from(u32::MAX) });
    assert!(link.server.machine.is_done() && link.server.machine.wants_shutdown());
    assert_eq!(link.client.error(), Error::Truncated(Truncated::Stream));
}

#[test]
fn each_direction_ends_apart() {
    let mut link = link(Inside::Raw);
    link.server.answers = false;
    link.run();
    link.client.machine.finish(link.client.now);
    link.run();
    assert!(link.server.finished && link.server.over.is_none());
    link.server.out().send(b"still here").unwrap();
    link.run();
    assert_eq!(link.client.heard, b"still here");
    link.server.machine.finish(link.server.now);
    link.run();
    assert_eq!((link.client.over, link.server.over), (Some(Ok(())), Some(Ok(()))));
}

#[test]
fn what_is_under_way_counts_as_sent_when_it_has_left() {
    let mut link = link(Inside::None);
    link.run();
    link.client.out().send(b"hello").unwrap();
    assert!(link.client.said(3).len() == 3 && !link.client.machine.is_idle());
    // Thirty seconds and it has not.
    link.client.at(31);
    assert_eq!(link.client.error(), Error::TimedOut(TimedOut::Send));
    link.client.at(32);
    assert!(link.client.machine.is_done());
}
