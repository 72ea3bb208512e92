//! One who sits between the two, and one who pretends.

use std::task::Waker;

use countersign::{Alert, Error, Instant, Role};
use countersign_host::ProtocolFactory;

use crate::ends::{End, Inside, Link};
use crate::pki::{Pki, Version};

/// Somebody who has certificates that both sides trust sits between them, and passes on what the client
/// of the first says inside TLS to the server of the second, and back.
fn pass_on(pki: &Pki, inside: Inside, front: Version, back: Version) -> (End, End) {
    let mut up = Link::new(pki.client(inside, front), pki.server(Inside::Raw, front));
    let mut down = Link::new(pki.client(Inside::Raw, back), pki.server(inside, back));
    up.server.answers = false;
    for _ in 0..40 {
        up.run();
        down.run();
        let said = std::mem::take(&mut up.server.heard);
        let answered = std::mem::take(&mut down.client.heard);
        // An end that is over takes nothing.
        if !said.is_empty() {
            let _ = down.client.out().send(&said);
        }
        if !answered.is_empty() {
            let _ = up.server.out().send(&answered);
        }
    }
    (up.client, down.server)
}

fn each_way(check: impl Fn(&Pki, Version, Version)) {
    let pki = Pki::new();
    for front in Version::ALL {
        for back in Version::ALL {
            check(&pki, front, back);
        }
    }
}

#[test]
fn mutual_is_not_passed_on_between_tls_connections_of_any_versions() {
    each_way(|pki, front, back| {
        for inside in [Inside::Mutual, Inside::Untagged] {
            let (client, server) = pass_on(pki, inside, front, back);
            assert!(!client.established && !server.established);
            assert_eq!(server.error(), Error::WrongKey, "{inside:?} {front:?} {back:?}");
            assert_eq!(client.error(), Error::Alert(Alert::Refused));
        }
    });
}

/// They cannot know; and this is how it looks when it works.
#[test]
fn the_other_schemes_are_passed_on() {
    each_way(|pki, front, back| {
        for inside in [Inside::Challenge, Inside::Multiprocessing] {
            let (client, server) = pass_on(pki, inside, front, back);
            assert!(client.established && server.established, "{inside:?} {front:?} {back:?}");
        }
    });
}

/// The same session without TLS.
fn bare(role: Role) -> End {
    let sessions = Inside::Mutual.sessions(role);
    let made = match role {
        Role::Client => sessions.client(Waker::noop(), Instant::EPOCH),
        Role::Server => sessions.server(Waker::noop(), Instant::EPOCH),
    };
    End::new(made.unwrap())
}

#[test]
fn whoever_takes_tls_off_on_the_way_brings_a_bound_end_and_an_unbound_one_no_closer() {
    let pki = Pki::new();
    for version in Version::ALL {
        // TLS towards the client alone.
        let mut up =
            Link::new(pki.client(Inside::Mutual, version), pki.server(Inside::Raw, version));
        let mut server = bare(Role::Server);
        up.server.answers = false;
        for _ in 0..10 {
            up.run();
            server.hears_all(&std::mem::take(&mut up.server.heard));
            let said = server.said(usize::MAX);
            if !said.is_empty() {
                let _ = up.server.out().send(&said);
            }
        }
        assert!(!up.client.established && !server.established);
        assert_eq!(server.error(), Error::WrongKey);

        // And towards the server alone.
        let mut down =
            Link::new(pki.client(Inside::Raw, version), pki.server(Inside::Mutual, version));
        let mut client = bare(Role::Client);
        for _ in 0..10 {
            down.run();
            client.hears_all(&std::mem::take(&mut down.client.heard));
            let said = client.said(usize::MAX);
            if !said.is_empty() {
                let _ = down.client.out().send(&said);
            }
        }
        assert!(!client.established && !down.server.established);
        assert_eq!(down.server.error(), Error::WrongKey);
    }
}
