use super::pair::*;
use super::*;

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
            server.session.abort(Reason::Shutdown, server.now);
        }
        assert_eq!(server.sent(), b"");
        assert!(server.session.is_done() && server.session.wants_shutdown());
        assert_eq!(client.hear(&m3), [Event::Established]);
    }
}
