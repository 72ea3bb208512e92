use super::pair::*;
use super::*;
use crate::error::{Alert, IdentityError};
use crate::process_id::ProcessId;

#[test]
fn an_end_inside_tls_waits_to_be_bound() {
    for role in [Role::Client, Role::Server] {
        let mut end = End::sealed(&sealed(mutual("end", 1).with_channel_binding()), role);
        assert_eq!(end.events(), []);
        assert_eq!(end.sent(), b"");
        assert!(!end.session.wants_read() && !end.session.wants_write());
        assert_eq!(end.offer(b"x"), 0);
        end.session.bind_channel(&[7; 32], end.now);
        assert!(end.session.wants_read());
        assert_eq!(end.session.wants_write(), role == Role::Server);
        assert_eq!(end.events(), []);
    }
}

#[test]
fn an_end_that_is_never_bound_has_the_handshakes_deadline_and_the_end_of_the_stream() {
    for role in [Role::Client, Role::Server] {
        let config = sealed(mutual("end", 1).with_channel_binding());
        let mut end = End::sealed(&config, role);
        end.at(4_999_999);
        assert_eq!(end.events(), []);
        end.at(5_000_000);
        assert_eq!(end.error(), Error::TimedOut(TimedOut::Handshake));
        assert_eq!(end.sent(), b"");

        let mut end = End::sealed(&config, role);
        end.eof();
        assert_eq!(end.error(), Error::Truncated(Truncated::Handshake));
        assert_eq!(end.sent(), b"");
        end.session.bind_channel(&[7; 32], end.now);
        assert_eq!(end.sent(), b"");
    }
}

#[test]
fn an_alert_never_follows_the_servers_last_message() {
    for deadline in [true, false] {
        let mut server = End::sealed(&server(), Role::Server);
        let mut client = End::sealed(&client(), Role::Client);
        client.hear(&server.sent());
        server.hear(&client.sent());
        let m3 = server.sent();
        // It is over, and nobody has looked for events.
        if deadline {
            server.at(5_000_000);
            assert_eq!(server.error(), Error::TimedOut(TimedOut::Handshake));
        } else {
            server.session.abort(CloseReason::Shutdown, server.now);
        }
        assert_eq!(server.sent(), b"");
        assert!(server.session.is_done() && server.session.wants_shutdown());
        assert_eq!(client.hear(&m3), [Event::Established]);
    }
}

fn alert(code: u8) -> Vec<u8> {
    vec![0, 0, 0, 2, 0x7f, code]
}

/// A server that has said hello, and the client that has heard it and answered.
fn greeted(client: &Config, server: &Config) -> (End, End, Vec<u8>) {
    let mut server = End::sealed(server, Role::Server);
    let mut client = End::sealed(client, Role::Client);
    assert_eq!(client.hear(&server.sent()), []);
    let m2 = client.sent();
    (client, server, m2)
}

#[test]
fn two_ends_know_each_other_and_the_same_session() {
    let (client, server) = established(&client(), &server());
    let (at_client, at_server) = (client.session.peer().unwrap(), server.session.peer().unwrap());
    for (peer, name) in [(at_client, "server"), (at_server, "client")] {
        assert!(peer.authenticated);
        assert_eq!((peer.name, peer.key_id), (Some(name), Some("default")));
        assert_eq!(peer.fingerprint, mutual_key().fingerprint());
    }
    assert_eq!(at_client.session_id, at_server.session_id);
    assert_eq!(at_client.exporter, at_server.exporter);
    for end in [client, server] {
        assert_eq!(end.pools.held(), (0, 0, 0));
        assert_eq!(end.timeout(), Some(15_000_000));
    }
}

#[test]
fn a_byte_at_a_time_they_agree_as_well() {
    let mut server = End::sealed(&server(), Role::Server);
    let mut client = End::sealed(&client(), Role::Client);
    let mut established = 0;
    for _ in 0..1_000 {
        let heard = [(server.transmit(1), &mut client), (vec![], &mut server)];
        for (bytes, end) in heard {
            for byte in bytes {
                established += end.hear(&[byte]).len();
            }
        }
        let byte = client.transmit(1);
        established += server.hear(&byte).len() + client.answered().len();
    }
    assert_eq!(established, 2);
    assert_eq!(client.session.peer().unwrap().exporter, server.session.peer().unwrap().exporter);
}

#[test]
fn a_client_is_asked_for_its_key_twice_and_each_time_once() {
    let (mut client, mut server) =
        (End::sealed(&client(), Role::Client), End::sealed(&server(), Role::Server));
    let wrong = key(Digest::Sha256, SECRET);
    for name in [None, Some("server")] {
        let m = server.sent();
        client.feed(&m[..4]);
        assert_eq!(client.events(), []);
        client.feed(&m[4..]);
        assert_eq!(client.events(), [Event::KeyNeeded]);
        assert_eq!(client.events(), []);
        assert!(!client.session.wants_read());
        let request = client.session.key_request().unwrap();
        assert_eq!(
            (request.role, request.key_id, request.name),
            (Role::Client, Some("default"), name)
        );
        let refused = client.session.provide_key(Ok(Candidates::one(&wrong)), client.now);
        assert_eq!(refused, Err(KeyError::Purpose));
        client.key(&mutual_key());
        if name.is_none() {
            assert_eq!(client.events(), []);
            server.hear(&client.sent());
        }
    }
    assert_eq!(client.events(), [Event::Established]);
    let late = client.session.provide_key(Ok(Candidates::one(&mutual_key())), client.now);
    assert_eq!(late, Err(KeyError::NotAsked));
}

#[test]
fn frames_right_behind_the_servers_last_message_are_kept() {
    let (mut client, mut server, m2) = greeted(&client(), &server());
    assert_eq!(server.hear(&m2), []);
    let mut bytes = server.sent();
    assert_eq!(server.events(), [Event::Established]);
    server.send(b"welcome").unwrap();
    bytes.extend(server.sent());
    assert_eq!(client.hear(&bytes), [Event::Established, whole()]);
    assert_eq!(client.chunk(), b"welcome");
}

/// What a server says last after `spoil` has met it when it has heard M2.
fn last_word(spoil: impl FnOnce(&mut End)) -> (Error, Vec<u8>) {
    let (_, mut server, m2) = greeted(&client(), &server());
    let (most, last) = m2.split_at(m2.len() - 1);
    assert_eq!(server.hear(most), []);
    server.feed(last);
    spoil(&mut server);
    let error = server.error();
    assert_eq!(server.pools.held(), (0, 0, 0));
    let bytes = server.sent();
    assert!(server.session.is_done() && server.session.wants_shutdown());
    assert_eq!((server.timeout(), server.error()), (None, error));
    assert!(server.session.peer().is_none());
    (error, bytes)
}

#[test]
fn a_server_that_refuses_says_the_class_of_its_reason_and_no_more() {
    let answer = |answer: Result<&Key, KeyRejection>| {
        last_word(|server| {
            assert_eq!(server.events(), [Event::KeyNeeded]);
            server.session.provide_key(answer.map(Candidates::one), server.now).unwrap();
        })
    };
    let other = Key::mutual(&[9; 16]).unwrap();
    assert_eq!(answer(Ok(&other)), (Error::WrongKey, alert(1)));
    for why in [KeyRejection::Unknown, KeyRejection::OutOfDate, KeyRejection::WrongRole] {
        assert_eq!(answer(Err(why)), (Error::Refused(why), alert(1)));
    }
    let aborted = last_word(|server| server.session.abort(CloseReason::Shutdown, server.now));
    assert_eq!(aborted, (Error::Aborted(CloseReason::Shutdown), alert(3)));
    let late = last_word(|server| server.at(5_000_000));
    assert_eq!(late, (Error::TimedOut(TimedOut::Handshake), alert(5)));

    for (at, error, code) in
        [(5, Error::Incompatible, 2), (6, Error::Incompatible, 2), (4, Error::Malformed, 4)]
    {
        let (_, mut server, mut m2) = greeted(&client(), &server());
        m2[at] = 9;
        assert_eq!(server.hear(&m2[..m2.len() - 1]), []);
        server.feed(&m2[m2.len() - 1..]);
        assert_eq!(server.error(), error);
        assert_eq!(server.sent(), alert(code));
    }
    let (_, mut late, _) = greeted(&client(), &server());
    late.feed(&513_u32.to_be_bytes());
    assert_eq!(late.error(), Error::Malformed);
    assert_eq!(late.sent(), alert(4));

    let (_, mut server, m2) = greeted(&client(), &server());
    server.hear(&m2[..9]);
    server.eof();
    assert_eq!(server.error(), Error::Truncated(Truncated::Handshake));
    assert_eq!(server.sent(), alert(4));
}

#[test]
fn half_a_message_is_followed_by_no_alert() {
    for sent in [0, 1, 44] {
        let mut server = End::sealed(&server(), Role::Server);
        assert_eq!(server.transmit(sent).len(), sent);
        server.at(5_000_000);
        assert_eq!(server.error(), Error::TimedOut(TimedOut::Handshake));
        assert_eq!(server.sent(), b"");
        assert!(server.session.is_done());
    }
}

#[test]
fn an_alert_has_a_second_to_leave() {
    let (_, mut server, m2) = greeted(&client(), &server());
    server.at(3_000_000);
    server.hear(&m2[..9]);
    server.session.abort(CloseReason::Shutdown, server.now);
    assert_eq!(server.timeout(), Some(4_000_000));
    assert_eq!(server.transmit(1).len(), 1);
    assert_eq!(server.timeout(), Some(4_000_000), "a byte buys no time");
    server.at(3_999_999);
    assert_eq!(server.transmit(1).len(), 1);
    assert!(!server.session.is_done());
    server.at(4_000_000);
    assert!(server.session.is_done());
    assert_eq!(server.sent(), b"");
    assert_eq!(server.timeout(), None);
    assert_eq!(server.error(), Error::Aborted(CloseReason::Shutdown));
}

#[test]
fn a_client_that_refuses_says_nothing() {
    let silent = |mut client: End, error| {
        assert_eq!(client.error(), error);
        assert_eq!(client.sent(), b"");
        assert!(client.session.is_done() && client.session.wants_shutdown());
        assert_eq!((client.timeout(), client.pools.held()), (None, (0, 0, 0)));
    };
    let (client_config, server_config) = (client(), server());
    let proved = || {
        let (client, mut server, m2) = greeted(&client_config, &server_config);
        assert_eq!(server.hear(&m2), []);
        (client, server.sent())
    };
    let (mut client, mut m3) = proved();
    *m3.last_mut().unwrap() ^= 1;
    for byte in m3 {
        client.feed(&[byte]);
        let _ = client.poll();
    }
    silent(client, Error::WrongKey);

    let (mut client, _) = proved();
    client.feed(&[0xff; 4]);
    silent(client, Error::Malformed);
    let (mut client, _) = proved();
    client.eof();
    silent(client, Error::Truncated(Truncated::Handshake));
    let (mut client, _) = proved();
    client.at(5_000_000);
    silent(client, Error::TimedOut(TimedOut::Handshake));
    let (mut client, m3) = proved();
    client.session.abort(CloseReason::Application, client.now);
    assert_eq!(client.offer(&m3), 0);
    silent(client, Error::Aborted(CloseReason::Application));
    // Nor does what it was about to say leave.
    let mut client = End::sealed(&client_config, Role::Client);
    client.hear(&End::sealed(&server_config, Role::Server).sent());
    assert_eq!(client.transmit(1).len(), 1);
    client.session.abort(CloseReason::Application, client.now);
    silent(client, Error::Aborted(CloseReason::Application));
}

#[test]
fn a_client_hears_why_it_was_refused_as_a_hint() {
    for (code, hint) in [(1, Alert::Refused), (3, Alert::Busy)] {
        let mut early = End::sealed(&client(), Role::Client);
        let (mut late, _, _) = greeted(&client(), &server());
        for client in [&mut early, &mut late] {
            client.feed(&alert(code)[..4]);
            assert_eq!(client.events(), []);
            client.feed(&alert(code)[4..]);
            assert_eq!(client.error(), Error::Alert(hint));
            assert_eq!(client.sent(), b"");
        }
    }
    assert_eq!(server().busy(), alert(3));
    assert_eq!(challenge(Digest::Sha256).busy(), b"");
    assert_eq!(framed(Framing::U32).busy(), b"");
}

#[test]
fn a_configuration_that_cannot_be_makes_no_session_and_holds_no_lease() {
    let refused = |config: &Config, receive, send| {
        let pools = Pools::default();
        let buffers = pools.buffers(receive, send);
        let made = Session::new(config, Role::Server, nonce(), buffers, Instant::EPOCH);
        let error = made.err();
        assert_eq!(pools.held(), (usize::from(error.is_none()), 0, 0));
        error
    };
    let good = server();
    assert_eq!(refused(&good, 260, 64), None);
    assert_eq!(refused(&good, 259, 64), Some(ConfigError::Buffer { needed: 260 }));
    assert_eq!(refused(&good, 260, 63), Some(ConfigError::Buffer { needed: 64 }));
    assert_eq!(good.receive_len(), 260);
    for framing in [Framing::Raw, Framing::U32] {
        let config = server().with_framing(framing);
        assert_eq!(refused(&config, 260, 64), Some(ConfigError::Framing));
        assert_eq!(refused(&framed(framing), 64, 64), None);
    }
    for config in [framed(Framing::Sealed), challenge(Digest::Sha256).with_framing(Framing::Sealed)]
    {
        assert_eq!(refused(&config, 260, 64), Some(ConfigError::Framing));
    }
    let untagged = sealed(mutual("server", 2).without_tags());
    assert_eq!(refused(&untagged, 260, 64), Some(ConfigError::Unprotected));
    let hurried = sealed(mutual("server", 2).with_heartbeat(Duration::from_millis(1)));
    assert_eq!(refused(&hurried, 260, 64), Some(ConfigError::Heartbeat));
}

#[test]
fn another_process_is_another_instance() {
    let parent = server();
    let child = parent.clone().with_process_id(ProcessId::from_bytes(&[1; ProcessId::LEN]));
    // The client's own instance is the one that the child has drawn.
    let (_, mut server, m2) = greeted(&client(), &child);
    server.feed(&m2[..4]);
    server.events();
    server.feed(&m2[4..]);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.key(&mutual_key());
    assert_eq!(server.error(), Error::Identity(IdentityError::SameProcess));
    established(&client(), &parent);
}
