//! Downgrade attacks: a man in the middle makes the endpoints settle for less.

use countersign::{Alert, ConfigError, Error, FrameError, Nonce, Protocol, Role};

use crate::endpoint::{alert, established, new_session, pair, run_handshake};
use crate::party::Party;
use Refused::{ByClient, ByServer};

/// Offsets in M1 and in M2.
const M1_VERSIONS: usize = 9;
const M1_SUITES: usize = 12;
const M2_VERSION: usize = 5;
const M2_SUITE: usize = 6;

const TAG_LEN: usize = 16;

fn inside_tls(party: Party) -> Party {
    Party { channel: Some(7), untagged: true, ..party }
}

/// Returns `m1` with other suites.
fn with_suites(m1: &[u8], suites: &[u8]) -> Vec<u8> {
    let nonce = &m1[m1.len() - 32..];
    let body = [&m1[4..M1_SUITES - 1], &[suites.len() as u8], suites, nonce].concat();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// Which side refuses, and why.
#[derive(Debug, PartialEq)]
enum Refused {
    ByClient(Error),
    ByServer(Error),
}

/// Lets a client receive the modified M1, and the server the client's answer. Returns how it fails.
fn relay_modified(client: &Party, server: &Party, m1: impl Fn(Vec<u8>) -> Vec<u8>) -> Refused {
    let (mut client, mut server) = (client.start(), server.start());
    let m2 = client.answer(&m1(server.output()));
    let sent = server.answer(&m2);
    let refused = match client.error {
        Some(error) => {
            assert_eq!(m2, b"");
            ByClient(error)
        }
        None => {
            assert_eq!(sent, alert(1));
            assert_eq!(client.answer(&sent), b"");
            ByServer(server.error.unwrap())
        }
    };
    assert!(!client.is_established() && !server.is_established());
    refused
}

#[test]
fn modified_version_offer_is_refused() {
    let offer = |min, max| {
        relay_modified(&Party::client(), &Party::server(), |mut m1| {
            m1[M1_VERSIONS..][..2].copy_from_slice(&[min, max]);
            m1
        })
    };
    // Where the client accepts the offer, the server detects the modification.
    for (min, max) in [(0, 1), (1, 2), (0, 255)] {
        assert_eq!(offer(min, max), ByServer(Error::WrongKey));
    }
    for (min, max) in [(0, 0), (2, 2), (2, 255)] {
        assert_eq!(offer(min, max), ByClient(Error::Incompatible));
    }
    assert_eq!(offer(1, 0), ByClient(Error::Malformed));
}

#[test]
fn version_that_was_not_offered_is_refused() {
    for version in [0, 2, 255] {
        let (mut client, mut server) = (Party::client().start(), Party::server().start());
        let mut m2 = client.answer(&server.output());
        m2[M2_VERSION] = version;
        assert_eq!(server.answer(&m2), alert(2));
        assert_eq!(server.error, Some(Error::Incompatible));
        client.feed(&alert(2));
        assert_eq!(client.error, Some(Error::Alert(Alert::Incompatible)));
    }
}

/// The modified M1 offers frames without tags to a client that is outside TLS, or that does not
/// allow them.
#[test]
fn client_refuses_untagged_frames_by_default() {
    let bound = |party| Party { channel: Some(7), ..party };
    for (client, server) in
        [(Party::client(), Party::server()), (bound(Party::client()), bound(Party::server()))]
    {
        for suites in [&[0][..], &[0, 2], &[2], &[0; 8]] {
            let refused = relay_modified(&client, &server, |m1| with_suites(&m1, suites));
            assert_eq!(refused, ByClient(Error::Incompatible), "{suites:?}");
        }
        // The client accepts the other suite in the offer, but the server did not send that offer.
        for suites in [&[0, 1][..], &[1, 0], &[1, 1], &[2, 1], &[9, 8, 7, 6, 5, 4, 3, 1]] {
            let refused = relay_modified(&client, &server, |m1| with_suites(&m1, suites));
            assert_eq!(refused, ByServer(Error::WrongKey), "{suites:?}");
        }
        for suites in [&[][..], &[1; 9]] {
            let refused = relay_modified(&client, &server, |m1| with_suites(&m1, suites));
            assert_eq!(refused, ByClient(Error::Malformed), "{suites:?}");
        }
    }
}

#[test]
fn suite_that_was_not_offered_is_refused() {
    let bound = |party| Party { channel: Some(7), ..party };
    for (client, server) in
        [(Party::client(), Party::server()), (bound(Party::client()), bound(Party::server()))]
    {
        for suite in [0, 2, 255] {
            let (mut client, mut server) = (client.start(), server.start());
            let mut m2 = client.answer(&server.output());
            m2[M2_SUITE] = suite;
            assert_eq!(server.answer(&m2), alert(2));
            assert_eq!(server.error, Some(Error::Incompatible));
        }
    }
}

/// Both sides allow both suites, and the attacker chooses one of them.
#[test]
fn modified_suite_offer_or_choice_is_refused() {
    let (client, server) = (inside_tls(Party::client()), inside_tls(Party::server()));
    for suites in [&[1][..], &[0], &[1, 0], &[0, 1, 1], &[0, 1, 2]] {
        let refused = relay_modified(&client, &server, |m1| with_suites(&m1, suites));
        assert_eq!(refused, ByServer(Error::WrongKey), "{suites:?}");
    }
    let (mut client, mut server) = (client.start(), server.start());
    let mut m2 = client.answer(&server.output());
    assert_eq!(m2[M2_SUITE], 0);
    m2[M2_SUITE] = 1;
    assert_eq!(server.answer(&m2), alert(1));
    assert_eq!(server.error, Some(Error::WrongKey));
}

#[test]
fn frames_lack_tags_only_if_both_sides_allow_it_in_tls() {
    let bound = |party| Party { channel: Some(7), ..party };
    let overhead = |client: &Party, server: &Party| {
        let (mut client, mut server, _) = pair(client, server);
        let frame = client.send(b"message");
        assert_eq!(server.answer(&frame), b"");
        assert_eq!(server.received, [b"message"]);
        frame.len() - 7 - 5
    };
    let (client, server) = (Party::client(), Party::server());
    assert_eq!(overhead(&client, &server), TAG_LEN);
    let (client, server) = (bound(client), bound(server));
    let (bare_client, bare_server) = (inside_tls(Party::client()), inside_tls(Party::server()));
    assert_eq!(overhead(&client, &server), TAG_LEN);
    assert_eq!(overhead(&bare_client, &server), TAG_LEN);
    assert_eq!(overhead(&client, &bare_server), TAG_LEN);
    assert_eq!(overhead(&bare_client, &bare_server), 0);
}

#[test]
fn untagged_frames_outside_tls_are_a_config_error() {
    for party in [Party::client(), Party::server()] {
        let config = Party { untagged: true, ..party }.config();
        for role in [Role::Client, Role::Server] {
            let made = new_session(&config, role, Nonce::from_bytes([1; Nonce::LEN]));
            assert_eq!(made.unwrap_err(), ConfigError::Unprotected);
        }
    }
}

/// Any attacker on the path can forge an alert. It ends this session and has no other effect.
#[test]
fn forged_alert_is_an_error_without_further_effect() {
    let meaning = |code| match code {
        1 => Alert::Refused,
        2 => Alert::Incompatible,
        3 => Alert::Busy,
        4 => Alert::Malformed,
        5 => Alert::TimedOut,
        code => Alert::Unknown(code),
    };
    let m1 = Party::server().start().output();
    let m2 = established().2.m2;
    for code in 0..=255 {
        for after_m1 in [false, true] {
            let mut client = Party::client().start();
            if after_m1 {
                assert_eq!(client.answer(&m1), m2);
            }
            assert_eq!(client.answer(&alert(code)), b"");
            assert_eq!(client.error, Some(Error::Alert(meaning(code))));
            assert!(
                !client.error.unwrap().is_authentication_failure(),
                "an alert counts as an authentication failure"
            );
            assert!(client.session.is_done() && !client.is_established());
            // The failed session reads nothing more.
            assert_eq!(client.answer(&m1), b"");
            assert_eq!(client.session.poll_timeout(), None);
            // No state survives: the next connection starts as this one did.
            assert_eq!(Party::client().start().answer(&m1), m2);
        }
    }
}

#[test]
fn alert_of_any_other_length_is_malformed() {
    for bytes in [&[0, 0, 0, 1, 0x7f][..], &[0, 0, 0, 3, 0x7f, 3, 0]] {
        let mut client = Party::client().start();
        client.feed(bytes);
        assert_eq!(client.error, Some(Error::Malformed));
    }
}

#[test]
fn alert_to_a_server_or_after_the_handshake_is_no_alert() {
    let mut server = Party::server().start();
    server.output();
    assert_eq!(server.answer(&alert(1)), alert(4));
    assert_eq!(server.error, Some(Error::Malformed));
    for code in 0..=255 {
        let (mut client, mut server, _) = established();
        for end in [&mut client, &mut server] {
            end.feed(&alert(code));
            assert_eq!(end.error, Some(Error::Frame(FrameError::Payload)));
        }
    }
}

#[test]
fn busy_message_is_an_alert() {
    let config = Party::server().config();
    assert_eq!(config.busy(), alert(3));
    let mut client = Party::client().start();
    client.feed(config.busy());
    assert_eq!(client.error, Some(Error::Alert(Alert::Busy)));
}

/// A refusal does not weaken the demands of the next connection.
#[test]
fn refused_client_retries_with_the_same_demands() {
    let (client, server) = (inside_tls(Party::client()), inside_tls(Party::server()));
    let wrong = Party { name: "alice", ..server };
    let (mut first, mut refusing) = (client.start(), wrong.start());
    assert_eq!(run_handshake(&mut first, &mut refusing).m3, alert(1));
    let m1 = server.start().output();
    let (mut again, mut fresh) = (client.start(), client.start());
    assert_eq!(again.answer(&m1), fresh.answer(&m1));
}
