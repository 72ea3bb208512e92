//! Who is who: talking to oneself, to the wrong one, in the wrong role, over another channel, with
//! another key; and what a server lets on about it.

use std::time::Duration;

use countersign::{Alert, Error, IdentityError, Key, KeyRejection, Protocol, Role};

use crate::ends::{End, Handshake, OTHER, SECRET, Who, alert, introduce, pair};

/// Both ends after a handshake that fails.
fn fails(client: &Who, server: &Who) -> (End, End, Handshake) {
    let (mut client, mut server) = (client.start(), server.start());
    let handshake = introduce(&mut client, &mut server);
    assert!(!client.is_established() && !server.is_established());
    (client, server, handshake)
}

/// The server refuses for this reason, and lets on that it refuses.
fn server_refuses(client: &Who, server: &Who, why: Error) {
    let (client, server, handshake) = fails(client, server);
    assert_eq!(server.error, Some(why));
    assert!(why.is_authentication_failure());
    assert_eq!(handshake.m3, alert(1));
    assert_eq!(client.error, Some(Error::Alert(Alert::Refused)));
}

#[test]
fn a_process_does_not_talk_to_itself_whatever_it_calls_itself() {
    let me = Who { name: "carol", instance: b'c', ..Who::client() };
    let server = Who { name: "dave", instance: b'c', ..Who::server() };
    server_refuses(&me, &server, Error::Identity(IdentityError::SameProcess));
    // Under one name it is the name that is noticed first.
    let server = Who { name: "carol", ..server };
    server_refuses(&me, &server, Error::Identity(IdentityError::SameName));
}

#[test]
fn an_end_does_not_talk_to_its_own_name_whatever_process_it_is() {
    let client = Who { name: "carol", instance: b'c', ..Who::client() };
    let server = Who { name: "carol", instance: b'd', ..Who::server() };
    server_refuses(&client, &server, Error::Identity(IdentityError::SameName));
    // To expect one's own name is no way around it.
    let client = Who { expected: Some("carol"), ..client };
    server_refuses(&client, &server, Error::Identity(IdentityError::SameName));
}

#[test]
fn a_client_that_is_led_to_another_server_is_refused_there() {
    let client = Who { expected: Some("bob"), ..Who::client() };
    pair(&client, &Who::server());
    // Names that begin or end the same are others.
    for name in ["mallory", "bo", "bobb", "Bob"] {
        server_refuses(
            &client,
            &Who { name, ..Who::server() },
            Error::Identity(IdentityError::WrongServer),
        );
    }
}

#[test]
fn a_client_does_not_take_a_server_whose_name_its_key_does_not_admit() {
    let client = Who { admits: false, ..Who::client() };
    let (mut client, mut server) = (client.start(), Who::server().start());
    let m2 = client.answer(&server.sent());
    // The server cannot know; what is asked first has no name yet and is answered.
    let m3 = server.answer(&m2);
    assert!(server.is_established());
    assert_eq!(client.answer(&m3), b"");
    assert_eq!(client.error, Some(Error::Identity(IdentityError::NameNotAllowed)));
    assert!(!client.is_established());
}

/// Whoever tries key ids, or names, learns nothing: all refusals are one and the same.
#[test]
fn a_server_refuses_in_the_same_bytes_whatever_the_reason() {
    let (alice, bob) = (Who::client(), Who::server());
    let refuse = |why| Who { secrets: Err(why), ..bob };
    let cases = [
        (alice, refuse(KeyRejection::Unknown), Error::Refused(KeyRejection::Unknown)),
        (alice, refuse(KeyRejection::OutOfDate), Error::Refused(KeyRejection::OutOfDate)),
        (alice, refuse(KeyRejection::WrongRole), Error::Refused(KeyRejection::WrongRole)),
        (Who { kid: "k2", ..alice }, bob, Error::Refused(KeyRejection::Unknown)),
        (Who { secrets: Ok(&[OTHER]), ..alice }, bob, Error::WrongKey),
        (alice, Who { admits: false, ..bob }, Error::Identity(IdentityError::NameNotAllowed)),
        (Who { name: "bob", ..alice }, bob, Error::Identity(IdentityError::SameName)),
        (Who { expected: Some("eve"), ..alice }, bob, Error::Identity(IdentityError::WrongServer)),
        (Who { instance: b'b', ..alice }, bob, Error::Identity(IdentityError::SameProcess)),
    ];
    for (client, server, why) in cases {
        let (mut client, mut server) = (client.start(), server.start());
        let m2 = client.answer(&server.sent());
        // The refusal comes at the same byte, and what follows it is not read.
        assert_eq!(server.answer(&m2[..m2.len() - 1]), b"", "{why:?}");
        assert_eq!(server.answer(&m2[m2.len() - 1..]), alert(1), "{why:?}");
        assert_eq!(server.error, Some(why));
        assert_eq!(server.feed(b"more"), 0);
        assert!(server.session.is_done() && server.session.wants_shutdown());
        assert_eq!(server.session.poll_timeout(), None);
        // It was asked for a key once, known or not.
        assert_eq!(server.events.len(), 1);
    }
}

#[test]
fn a_key_that_is_not_for_a_client_proves_nothing_as_one() {
    let client = Who { secrets: Err(KeyRejection::WrongRole), ..Who::client() };
    let mut client = client.start();
    assert_eq!(client.answer(&Who::server().start().sent()), b"");
    assert_eq!(client.error, Some(Error::Refused(KeyRejection::WrongRole)));
}

#[test]
fn ends_of_one_role_do_not_come_together() {
    let (mut first, mut second) = (Who::server().start(), Who::server().start());
    let (to_second, to_first) = (first.sent(), second.sent());
    for (server, m1) in [(&mut first, to_first), (&mut second, to_second)] {
        assert_eq!(server.answer(&m1), alert(4));
        assert_eq!(server.error, Some(Error::Malformed));
    }
    // Clients wait for each other.
    let (mut client, mut server) = (Who::client().start(), Who::server().start());
    let m2 = client.answer(&server.sent());
    let mut other = Who { nonce: 0xa2, ..Who::client() }.start();
    assert_eq!(other.sent(), b"");
    assert_eq!(other.answer(&m2), b"");
    assert_eq!(other.error, Some(Error::Malformed));
}

#[test]
fn ends_of_two_channels_do_not_come_together() {
    let bound = |who, channel| Who { channel, ..who };
    // Not even no channel and one whose exporter is all 0.
    let channels = [None, Some(0), Some(1), Some(2)];
    for (up, down) in channels.into_iter().flat_map(|up| channels.map(|down| (up, down))) {
        let (client, server) = (bound(Who::client(), up), bound(Who::server(), down));
        if up == down {
            pair(&client, &server);
        } else {
            // A man in the middle of TLS, or an end that does not know that it is in one.
            server_refuses(&client, &server, Error::WrongKey);
        }
    }
}

#[test]
fn a_bound_end_says_nothing_before_it_is_bound_and_is_bound_once() {
    for who in [Who::client(), Who::server()] {
        let who = Who { channel: Some(1), ..who };
        let unbound = Who { channel: None, ..who };
        let mut end = End::new(&who.config(), who.role, who.nonce, unbound.keyring());
        assert!(!end.session.wants_read());
        assert_eq!(end.sent(), b"");
        end.pass(Duration::from_secs(4));
        assert_eq!(end.sent(), b"");
        for channel in [1, 2] {
            end.session.bind_channel(&[channel; 32], end.now);
        }
        let mut other = match who.role {
            Role::Client => Who { channel: Some(1), ..Who::server() },
            Role::Server => Who { channel: Some(1), ..Who::client() },
        }
        .start();
        match who.role {
            Role::Client => _ = introduce(&mut end, &mut other),
            Role::Server => _ = introduce(&mut other, &mut end),
        }
        assert!(end.is_established() && other.is_established());
        // The silence was counted: it has the rest of its time, and no more.
        let mut late = End::new(&who.config(), who.role, who.nonce, unbound.keyring());
        late.pass(Duration::from_secs(5));
        assert!(late.session.is_done());
        assert_eq!(late.sent(), b"");
    }
}

#[test]
fn two_keys_of_one_id_are_one_as_good_as_the_other_in_either_order() {
    let fingerprint = |secret| Key::mutual(secret).unwrap().fingerprint();
    let old = SECRET;
    let clients: [(&[&[u8]], _); 4] =
        [(&[SECRET], old), (&[OTHER], OTHER), (&[OTHER, SECRET], OTHER), (&[SECRET, OTHER], old)];
    for (secrets, proves) in clients {
        let client = Who { secrets: Ok(secrets), ..Who::client() };
        let servers: [&[&[u8]]; 2] = [&[SECRET, OTHER], &[OTHER, SECRET]];
        for secrets in servers {
            let (mut client, mut server, _) =
                pair(&client, &Who { secrets: Ok(secrets), ..Who::server() });
            for end in [&client, &server] {
                assert_eq!(end.session.peer().unwrap().fingerprint, fingerprint(proves));
            }
            assert_eq!(server.answer(&client.say(b"up")), b"");
            assert_eq!(client.answer(&server.say(b"down")), b"");
            assert_eq!(
                (&server.heard, &client.heard),
                (&vec![b"up".to_vec()], &vec![b"down".to_vec()])
            );
        }
        // A server that was not given the new key knows only the old one: servers come first.
        for (secret, known) in [(SECRET, &[SECRET]), (OTHER, &[OTHER])] {
            let server = Who { secrets: Ok(known), ..Who::server() };
            match secret == proves {
                true => _ = pair(&client, &server),
                false => server_refuses(&client, &server, Error::WrongKey),
            }
        }
    }
}

#[test]
fn a_third_key_is_refused_by_a_server_of_two() {
    let client = Who { secrets: Ok(&[b"a secret that no server has any more"]), ..Who::client() };
    let server = Who { secrets: Ok(&[SECRET, OTHER]), ..Who::server() };
    server_refuses(&client, &server, Error::WrongKey);
}
