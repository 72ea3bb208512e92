//! The scheme `mutual` in a session: alerts, deadlines, key requests.

use super::pair::*;
use super::*;
use crate::error::{Alert, IdentityError};
use crate::process_id::ProcessId;

#[test]
fn channel_bound_session_waits_for_its_binding() {
    for role in [Role::Client, Role::Server] {
        let mut endpoint = Endpoint::sealed(&sealed(mutual("end", 1).with_channel_binding()), role);
        assert_eq!(endpoint.events(), []);
        assert_eq!(endpoint.transmit_all(), b"");
        assert!(!endpoint.session.wants_read() && !endpoint.session.wants_write());
        assert_eq!(endpoint.offer(b"x"), 0);
        endpoint.session.bind_channel(&[7; 32], endpoint.now);
        assert!(endpoint.session.wants_read());
        assert_eq!(endpoint.session.wants_write(), role == Role::Server);
        assert_eq!(endpoint.events(), []);
    }
}

#[test]
fn unbound_session_times_out_or_is_truncated() {
    for role in [Role::Client, Role::Server] {
        let config = sealed(mutual("end", 1).with_channel_binding());
        let mut endpoint = Endpoint::sealed(&config, role);
        endpoint.advance_to(4_999_999);
        assert_eq!(endpoint.events(), []);
        endpoint.advance_to(5_000_000);
        assert_eq!(endpoint.error(), Error::TimedOut(TimedOut::Handshake));
        assert_eq!(endpoint.transmit_all(), b"");

        let mut endpoint = Endpoint::sealed(&config, role);
        endpoint.eof();
        assert_eq!(endpoint.error(), Error::Truncated(Truncated::Handshake));
        assert_eq!(endpoint.transmit_all(), b"");
        endpoint.session.bind_channel(&[7; 32], endpoint.now);
        assert_eq!(endpoint.transmit_all(), b"");
    }
}

#[test]
fn no_alert_follows_m3() {
    for deadline in [true, false] {
        let mut server = Endpoint::sealed(&server(), Role::Server);
        let mut client = Endpoint::sealed(&client(), Role::Client);
        client.deliver(&server.transmit_all());
        server.deliver(&client.transmit_all());
        let m3 = server.transmit_all();
        // The handshake is complete, but the driver has not polled events yet.
        if deadline {
            server.advance_to(5_000_000);
            assert_eq!(server.error(), Error::TimedOut(TimedOut::Handshake));
        } else {
            server.session.abort(CloseReason::Shutdown, server.now);
        }
        assert_eq!(server.transmit_all(), b"");
        assert!(server.session.is_done() && server.session.wants_shutdown());
        assert_eq!(client.deliver(&m3), [Event::Established]);
    }
}

fn alert(code: u8) -> Vec<u8> {
    vec![0, 0, 0, 2, 0x7f, code]
}

/// A client and a server after M1, and M2, which the server has not received yet.
fn exchange_until_m2(client: &Config, server: &Config) -> (Endpoint, Endpoint, Vec<u8>) {
    let mut server = Endpoint::sealed(server, Role::Server);
    let mut client = Endpoint::sealed(client, Role::Client);
    assert_eq!(client.deliver(&server.transmit_all()), []);
    let m2 = client.transmit_all();
    (client, server, m2)
}

#[test]
fn both_sessions_agree_on_peer_and_session_id() {
    let (client, server) = established(&client(), &server());
    let (server_info, client_info) =
        (client.session.peer().unwrap(), server.session.peer().unwrap());
    for (peer, name) in [(server_info, "server"), (client_info, "client")] {
        assert!(peer.authenticated);
        assert_eq!((peer.name, peer.key_id), (Some(name), Some("default")));
        assert_eq!(peer.fingerprint, mutual_key().fingerprint());
    }
    assert_eq!(server_info.session_id, client_info.session_id);
    assert_eq!(server_info.exporter, client_info.exporter);
    for endpoint in [client, server] {
        assert_eq!(endpoint.pools.held(), (0, 0, 0));
        assert_eq!(endpoint.timeout(), Some(15_000_000));
    }
}

#[test]
fn mutual_handshake_completes_byte_by_byte() {
    let mut server = Endpoint::sealed(&server(), Role::Server);
    let mut client = Endpoint::sealed(&client(), Role::Client);
    let mut established = 0;
    for _ in 0..1_000 {
        let deliveries = [(server.transmit(1), &mut client), (vec![], &mut server)];
        for (bytes, endpoint) in deliveries {
            for byte in bytes {
                established += endpoint.deliver(&[byte]).len();
            }
        }
        let byte = client.transmit(1);
        established += server.deliver(&byte).len() + client.poll_with_key().len();
    }
    assert_eq!(established, 2);
    assert_eq!(client.session.peer().unwrap().exporter, server.session.peer().unwrap().exporter);
}

#[test]
fn client_requests_a_key_once_for_m1_and_once_for_m3() {
    let (mut client, mut server) =
        (Endpoint::sealed(&client(), Role::Client), Endpoint::sealed(&server(), Role::Server));
    let wrong = key(Digest::Sha256, SECRET);
    for name in [None, Some("server")] {
        let m = server.transmit_all();
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
        let rejection = client.session.provide_key(Ok(Candidates::one(&wrong)), client.now);
        assert_eq!(rejection, Err(KeyError::Purpose));
        client.provide_key(&mutual_key());
        if name.is_none() {
            assert_eq!(client.events(), []);
            server.deliver(&client.transmit_all());
        }
    }
    assert_eq!(client.events(), [Event::Established]);
    let late = client.session.provide_key(Ok(Candidates::one(&mutual_key())), client.now);
    assert_eq!(late, Err(KeyError::NotAsked));
}

#[test]
fn frames_right_after_m3_are_delivered() {
    let (mut client, mut server, m2) = exchange_until_m2(&client(), &server());
    assert_eq!(server.deliver(&m2), []);
    let mut bytes = server.transmit_all();
    assert_eq!(server.events(), [Event::Established]);
    server.send(b"welcome").unwrap();
    bytes.extend(server.transmit_all());
    assert_eq!(client.deliver(&bytes), [Event::Established, whole_message()]);
    assert_eq!(client.chunk(), b"welcome");
}

/// The error and the output of a server that has read M2 but not parsed it, after `act`.
fn alert_after_m2(act: impl FnOnce(&mut Endpoint)) -> (Error, Vec<u8>) {
    let (_, mut server, m2) = exchange_until_m2(&client(), &server());
    let (most, last) = m2.split_at(m2.len() - 1);
    assert_eq!(server.deliver(most), []);
    server.feed(last);
    act(&mut server);
    let error = server.error();
    assert_eq!(server.pools.held(), (0, 0, 0));
    let bytes = server.transmit_all();
    assert!(server.session.is_done() && server.session.wants_shutdown());
    assert_eq!((server.timeout(), server.error()), (None, error));
    assert!(server.session.peer().is_none());
    (error, bytes)
}

#[test]
fn server_alert_reveals_only_the_error_class() {
    let answer = |answer: Result<&Key, KeyRejection>| {
        alert_after_m2(|server| {
            assert_eq!(server.events(), [Event::KeyNeeded]);
            server.session.provide_key(answer.map(Candidates::one), server.now).unwrap();
        })
    };
    let other = Key::mutual(&[9; 16]).unwrap();
    assert_eq!(answer(Ok(&other)), (Error::WrongKey, alert(1)));
    for reason in [KeyRejection::Unknown, KeyRejection::OutOfDate, KeyRejection::WrongRole] {
        assert_eq!(answer(Err(reason)), (Error::Refused(reason), alert(1)));
    }
    let aborted = alert_after_m2(|server| server.session.abort(CloseReason::Shutdown, server.now));
    assert_eq!(aborted, (Error::Aborted(CloseReason::Shutdown), alert(3)));
    let late = alert_after_m2(|server| server.advance_to(5_000_000));
    assert_eq!(late, (Error::TimedOut(TimedOut::Handshake), alert(5)));

    for (at, error, code) in
        [(5, Error::Incompatible, 2), (6, Error::Incompatible, 2), (4, Error::Malformed, 4)]
    {
        let (_, mut server, mut m2) = exchange_until_m2(&client(), &server());
        m2[at] = 9;
        assert_eq!(server.deliver(&m2[..m2.len() - 1]), []);
        server.feed(&m2[m2.len() - 1..]);
        assert_eq!(server.error(), error);
        assert_eq!(server.transmit_all(), alert(code));
    }
    let (_, mut late, _) = exchange_until_m2(&client(), &server());
    late.feed(&513_u32.to_be_bytes());
    assert_eq!(late.error(), Error::Malformed);
    assert_eq!(late.transmit_all(), alert(4));

    let (_, mut server, m2) = exchange_until_m2(&client(), &server());
    server.deliver(&m2[..9]);
    server.eof();
    assert_eq!(server.error(), Error::Truncated(Truncated::Handshake));
    assert_eq!(server.transmit_all(), alert(4));
}

#[test]
fn no_alert_follows_a_partial_m1() {
    for sent in [0, 1, 44] {
        let mut server = Endpoint::sealed(&server(), Role::Server);
        assert_eq!(server.transmit(sent).len(), sent);
        server.advance_to(5_000_000);
        assert_eq!(server.error(), Error::TimedOut(TimedOut::Handshake));
        assert_eq!(server.transmit_all(), b"");
        assert!(server.session.is_done());
    }
}

#[test]
fn alert_has_one_second_to_be_transmitted() {
    let (_, mut server, m2) = exchange_until_m2(&client(), &server());
    server.advance_to(3_000_000);
    server.deliver(&m2[..9]);
    server.session.abort(CloseReason::Shutdown, server.now);
    assert_eq!(server.timeout(), Some(4_000_000));
    assert_eq!(server.transmit(1).len(), 1);
    assert_eq!(
        server.timeout(),
        Some(4_000_000),
        "a transmitted byte does not extend the deadline"
    );
    server.advance_to(3_999_999);
    assert_eq!(server.transmit(1).len(), 1);
    assert!(!server.session.is_done());
    server.advance_to(4_000_000);
    assert!(server.session.is_done());
    assert_eq!(server.transmit_all(), b"");
    assert_eq!(server.timeout(), None);
    assert_eq!(server.error(), Error::Aborted(CloseReason::Shutdown));
}

#[test]
fn failing_client_transmits_nothing() {
    let assert_silent_failure = |mut client: Endpoint, error| {
        assert_eq!(client.error(), error);
        assert_eq!(client.transmit_all(), b"");
        assert!(client.session.is_done() && client.session.wants_shutdown());
        assert_eq!((client.timeout(), client.pools.held()), (None, (0, 0, 0)));
    };
    let (client_config, server_config) = (client(), server());
    let until_m3 = || {
        let (client, mut server, m2) = exchange_until_m2(&client_config, &server_config);
        assert_eq!(server.deliver(&m2), []);
        (client, server.transmit_all())
    };
    let (mut client, mut m3) = until_m3();
    *m3.last_mut().unwrap() ^= 1;
    for byte in m3 {
        client.feed(&[byte]);
        let _ = client.poll();
    }
    assert_silent_failure(client, Error::WrongKey);

    let (mut client, _) = until_m3();
    client.feed(&[0xff; 4]);
    assert_silent_failure(client, Error::Malformed);
    let (mut client, _) = until_m3();
    client.eof();
    assert_silent_failure(client, Error::Truncated(Truncated::Handshake));
    let (mut client, _) = until_m3();
    client.advance_to(5_000_000);
    assert_silent_failure(client, Error::TimedOut(TimedOut::Handshake));
    let (mut client, m3) = until_m3();
    client.session.abort(CloseReason::Application, client.now);
    assert_eq!(client.offer(&m3), 0);
    assert_silent_failure(client, Error::Aborted(CloseReason::Application));
    // The rest of a partly transmitted M2 is dropped.
    let mut client = Endpoint::sealed(&client_config, Role::Client);
    client.deliver(&Endpoint::sealed(&server_config, Role::Server).transmit_all());
    assert_eq!(client.transmit(1).len(), 1);
    client.session.abort(CloseReason::Application, client.now);
    assert_silent_failure(client, Error::Aborted(CloseReason::Application));
}

#[test]
fn client_reports_the_server_alert_as_a_hint() {
    for (code, hint) in [(1, Alert::Refused), (3, Alert::Busy)] {
        let mut early = Endpoint::sealed(&client(), Role::Client);
        let (mut late, _, _) = exchange_until_m2(&client(), &server());
        for client in [&mut early, &mut late] {
            client.feed(&alert(code)[..4]);
            assert_eq!(client.events(), []);
            client.feed(&alert(code)[4..]);
            assert_eq!(client.error(), Error::Alert(hint));
            assert_eq!(client.transmit_all(), b"");
        }
    }
    assert_eq!(server().busy(), alert(3));
    assert_eq!(challenge(Digest::Sha256).busy(), b"");
    assert_eq!(framed(Framing::U32).busy(), b"");
}

#[test]
fn invalid_config_is_rejected_and_holds_no_lease() {
    let rejection = |config: &Config, receive, send| {
        let pools = Pools::default();
        let buffers = pools.buffers(receive, send);
        let result = Session::new(config, Role::Server, nonce(), buffers, Instant::EPOCH);
        let error = result.err();
        assert_eq!(pools.held(), (usize::from(error.is_none()), 0, 0));
        error
    };
    let valid = server();
    assert_eq!(rejection(&valid, 260, 64), None);
    assert_eq!(rejection(&valid, 259, 64), Some(ConfigError::Buffer { needed: 260 }));
    assert_eq!(rejection(&valid, 260, 63), Some(ConfigError::Buffer { needed: 64 }));
    assert_eq!(valid.receive_len(), 260);
    for framing in [Framing::Raw, Framing::U32] {
        let config = server().with_framing(framing);
        assert_eq!(rejection(&config, 260, 64), Some(ConfigError::Framing));
        assert_eq!(rejection(&framed(framing), 64, 64), None);
    }
    for config in [framed(Framing::Sealed), challenge(Digest::Sha256).with_framing(Framing::Sealed)]
    {
        assert_eq!(rejection(&config, 260, 64), Some(ConfigError::Framing));
    }
    let untagged = sealed(mutual("server", 2).without_tags());
    assert_eq!(rejection(&untagged, 260, 64), Some(ConfigError::Unprotected));
    let short_heartbeat = sealed(mutual("server", 2).with_heartbeat(Duration::from_millis(1)));
    assert_eq!(rejection(&short_heartbeat, 260, 64), Some(ConfigError::Heartbeat));
}

#[test]
fn child_process_uses_its_own_process_id() {
    let parent = server();
    let child = parent.clone().with_process_id(ProcessId::from_bytes(&[1; ProcessId::LEN]));
    // The process id of the child is that of the client, so the server must reject it.
    let (_, mut server, m2) = exchange_until_m2(&client(), &child);
    server.feed(&m2[..4]);
    server.events();
    server.feed(&m2[4..]);
    assert_eq!(server.events(), [Event::KeyNeeded]);
    server.provide_key(&mutual_key());
    assert_eq!(server.error(), Error::Identity(IdentityError::SameProcess));
    established(&client(), &parent);
}
