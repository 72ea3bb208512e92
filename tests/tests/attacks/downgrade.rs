//! Somebody on the way wants the ends to settle for less.

use countersign::{Alert, ConfigError, Error, FrameError, Nonce, Protocol, Role};

use crate::ends::{Who, alert, begin, honest, introduce, pair};
use Refused::{ByClient, ByServer};

/// Where these are in an M1, and in an M2.
const M1_VERSIONS: usize = 9;
const M1_SUITES: usize = 12;
const M2_VERSION: usize = 5;
const M2_SUITE: usize = 6;

const TAG_LEN: usize = 16;

fn inside_tls(who: Who) -> Who {
    Who { channel: Some(7), untagged: true, ..who }
}

/// `m1` with other suites.
fn offering(m1: &[u8], suites: &[u8]) -> Vec<u8> {
    let nonce = &m1[m1.len() - 32..];
    let body = [&m1[4..M1_SUITES - 1], &[suites.len() as u8], suites, nonce].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// Who refuses, and why.
#[derive(Debug, PartialEq)]
enum Refused {
    ByClient(Error),
    ByServer(Error),
}

/// What becomes of a client that gets this M1 and a server that gets its answer.
fn between(client: &Who, server: &Who, m1: impl Fn(Vec<u8>) -> Vec<u8>) -> Refused {
    let (mut client, mut server) = (client.start(), server.start());
    let m2 = client.answer(&m1(server.sent()));
    let said = server.answer(&m2);
    let refused = match client.error {
        Some(error) => {
            assert_eq!(m2, b"");
            ByClient(error)
        }
        None => {
            assert_eq!(said, alert(1));
            assert_eq!(client.answer(&said), b"");
            ByServer(server.error.unwrap())
        }
    };
    assert!(!client.is_established() && !server.is_established());
    refused
}

#[test]
fn an_offer_of_versions_that_was_changed_is_not_agreed_on() {
    let offer = |min, max| {
        between(&Who::client(), &Who::server(), |mut m1| {
            m1[M1_VERSIONS..][..2].copy_from_slice(&[min, max]);
            m1
        })
    };
    // Where the client sees nothing wrong, the server does.
    for (min, max) in [(0, 1), (1, 2), (0, 255)] {
        assert_eq!(offer(min, max), ByServer(Error::WrongKey));
    }
    for (min, max) in [(0, 0), (2, 2), (2, 255)] {
        assert_eq!(offer(min, max), ByClient(Error::Incompatible));
    }
    assert_eq!(offer(1, 0), ByClient(Error::Malformed));
}

#[test]
fn a_version_that_was_not_offered_cannot_be_chosen() {
    for version in [0, 2, 255] {
        let (mut client, mut server) = (Who::client().start(), Who::server().start());
        let mut m2 = client.answer(&server.sent());
        m2[M2_VERSION] = version;
        assert_eq!(server.answer(&m2), alert(2));
        assert_eq!(server.error, Some(Error::Incompatible));
        client.feed(&alert(2));
        assert_eq!(client.error, Some(Error::Alert(Alert::Incompatible)));
    }
}

/// An offer of no protection, in M1, to a client that has no channel, or that does not allow it.
#[test]
fn a_client_does_not_take_the_suite_none_unless_told_to_inside_tls() {
    let bound = |who| Who { channel: Some(7), ..who };
    for (client, server) in
        [(Who::client(), Who::server()), (bound(Who::client()), bound(Who::server()))]
    {
        for suites in [&[0][..], &[0, 2], &[2], &[0; 8]] {
            let refused = between(&client, &server, |m1| offering(&m1, suites));
            assert_eq!(refused, ByClient(Error::Incompatible), "{suites:?}");
        }
        // It takes the other one that it is offered, which was not the server's offer.
        for suites in [&[0, 1][..], &[1, 0], &[1, 1], &[2, 1], &[9, 8, 7, 6, 5, 4, 3, 1]] {
            let refused = between(&client, &server, |m1| offering(&m1, suites));
            assert_eq!(refused, ByServer(Error::WrongKey), "{suites:?}");
        }
        for suites in [&[][..], &[1; 9]] {
            let refused = between(&client, &server, |m1| offering(&m1, suites));
            assert_eq!(refused, ByClient(Error::Malformed), "{suites:?}");
        }
    }
}

#[test]
fn a_suite_that_was_not_offered_cannot_be_chosen() {
    let bound = |who| Who { channel: Some(7), ..who };
    for (client, server) in
        [(Who::client(), Who::server()), (bound(Who::client()), bound(Who::server()))]
    {
        for suite in [0, 2, 255] {
            let (mut client, mut server) = (client.start(), server.start());
            let mut m2 = client.answer(&server.sent());
            m2[M2_SUITE] = suite;
            assert_eq!(server.answer(&m2), alert(2));
            assert_eq!(server.error, Some(Error::Incompatible));
        }
    }
}

/// Both allow both, and the attacker would have one of them.
#[test]
fn a_choice_of_suites_is_what_both_ends_saw() {
    let (client, server) = (inside_tls(Who::client()), inside_tls(Who::server()));
    for suites in [&[1][..], &[0], &[1, 0], &[0, 1, 1], &[0, 1, 2]] {
        let refused = between(&client, &server, |m1| offering(&m1, suites));
        assert_eq!(refused, ByServer(Error::WrongKey), "{suites:?}");
    }
    let (mut client, mut server) = (client.start(), server.start());
    let mut m2 = client.answer(&server.sent());
    assert_eq!(m2[M2_SUITE], 0);
    m2[M2_SUITE] = 1;
    assert_eq!(server.answer(&m2), alert(1));
    assert_eq!(server.error, Some(Error::WrongKey));
}

#[test]
fn frames_have_tags_unless_both_ends_do_without_inside_tls() {
    let bound = |who| Who { channel: Some(7), ..who };
    let overhead = |client: &Who, server: &Who| {
        let (mut client, mut server, _) = pair(client, server);
        let frame = client.say(b"message");
        assert_eq!(server.answer(&frame), b"");
        assert_eq!(server.heard, [b"message"]);
        frame.len() - 7 - 5
    };
    let (client, server) = (Who::client(), Who::server());
    assert_eq!(overhead(&client, &server), TAG_LEN);
    let (client, server) = (bound(client), bound(server));
    let (bare_client, bare_server) = (inside_tls(Who::client()), inside_tls(Who::server()));
    assert_eq!(overhead(&client, &server), TAG_LEN);
    assert_eq!(overhead(&bare_client, &server), TAG_LEN);
    assert_eq!(overhead(&client, &bare_server), TAG_LEN);
    assert_eq!(overhead(&bare_client, &bare_server), 0);
}

#[test]
fn nobody_can_be_configured_to_do_without_tags_outside_tls() {
    for who in [Who::client(), Who::server()] {
        let config = Who { untagged: true, ..who }.config();
        for role in [Role::Client, Role::Server] {
            let made = begin(&config, role, Nonce::from_bytes([1; Nonce::LEN]));
            assert_eq!(made.unwrap_err(), ConfigError::Unprotected);
        }
    }
}

/// Whoever is on the way can say it; it ends this session, and what the error says is all of it.
#[test]
fn a_forged_alert_is_an_error_and_nothing_else() {
    let meaning = |code| match code {
        1 => Alert::Refused,
        2 => Alert::Incompatible,
        3 => Alert::Busy,
        4 => Alert::Malformed,
        5 => Alert::TimedOut,
        code => Alert::Unknown(code),
    };
    let m1 = Who::server().start().sent();
    let m2 = honest().2.m2;
    for code in 0..=255 {
        for after_m1 in [false, true] {
            let mut client = Who::client().start();
            if after_m1 {
                assert_eq!(client.answer(&m1), m2);
            }
            assert_eq!(client.answer(&alert(code)), b"");
            assert_eq!(client.error, Some(Error::Alert(meaning(code))));
            assert!(
                !client.error.unwrap().is_authentication_failure(),
                "it would count against the server"
            );
            assert!(client.session.is_done() && !client.is_established());
            // Nothing follows, on this connection.
            assert_eq!(client.answer(&m1), b"");
            assert_eq!(client.session.poll_timeout(), None);
            // And nothing is remembered: the next connection begins as this one did.
            assert_eq!(Who::client().start().answer(&m1), m2);
        }
    }
}

#[test]
fn an_alert_has_one_code_and_nothing_else() {
    for bytes in [&[0, 0, 0, 1, 0x7f][..], &[0, 0, 0, 3, 0x7f, 3, 0]] {
        let mut client = Who::client().start();
        client.feed(bytes);
        assert_eq!(client.error, Some(Error::Malformed));
    }
}

#[test]
fn an_alert_means_nothing_to_a_server_or_once_a_session_is_established() {
    let mut server = Who::server().start();
    server.sent();
    assert_eq!(server.answer(&alert(1)), alert(4));
    assert_eq!(server.error, Some(Error::Malformed));
    for code in 0..=255 {
        let (mut client, mut server, _) = honest();
        for end in [&mut client, &mut server] {
            end.feed(&alert(code));
            assert_eq!(end.error, Some(Error::Frame(FrameError::Payload)));
        }
    }
}

#[test]
fn the_word_for_those_for_whom_there_is_no_room_is_an_alert() {
    let config = Who::server().config();
    assert_eq!(config.busy(), alert(3));
    let mut client = Who::client().start();
    client.feed(config.busy());
    assert_eq!(client.error, Some(Error::Alert(Alert::Busy)));
}

/// A client that was refused is done; whoever starts the next one starts it with the same demands.
#[test]
fn a_client_that_was_refused_asks_for_no_less_the_next_time() {
    let (client, server) = (inside_tls(Who::client()), inside_tls(Who::server()));
    let wrong = Who { name: "alice", ..server };
    let (mut first, mut refusing) = (client.start(), wrong.start());
    assert_eq!(introduce(&mut first, &mut refusing).m3, alert(1));
    let m1 = server.start().sent();
    let (mut again, mut fresh) = (client.start(), client.start());
    assert_eq!(again.answer(&m1), fresh.answer(&m1));
}
