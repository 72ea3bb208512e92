//! Limits: connections, handshakes, and both per address.

use countersign::{Alert, Error, Framing};
use countersign_driver::services::Echo;
use countersign_host::{
    ConnectionHandle, ConnectionLimit, LimitExceeded, PeerLimitOptions, PeerLimits, PoolOptions,
    Pools, Streams,
};
use countersign_tests::{ANOTHER_SECRET, FrameProtection, SessionSpec};

use crate::adapters::{Adapter, CLIENTS, Client};
use crate::protocol_spec::ProtocolSpec;
use crate::server::{RunningServer, ServerSetup};
use crate::socket_peer::{SocketPeer, response};
use crate::{TEST_TIMEOUT, for_each_concurrently, wait_until};

on_every_adapter! {
    connection_over_the_limit_is_refused,
    handshake_over_the_limit_is_refused,
    address_with_many_failures_is_refused_but_keeps_sessions,
    handshakes_of_one_address_are_limited,
}

/// Returns one combination of each scheme, with the alert that a refused client receives.
fn refusals() -> Vec<(ProtocolSpec, Option<Error>)> {
    let busy = Some(Error::Alert(Alert::Busy));
    vec![
        (ProtocolSpec::CHALLENGE, None),
        (ProtocolSpec::MULTIPROCESSING, None),
        (ProtocolSpec::MUTUAL, busy),
        // Inside TLS the server sends nothing before the TLS handshake.
        (ProtocolSpec::plain(SessionSpec::None(Framing::U32)).in_tls(), None),
        (ProtocolSpec::plain(SessionSpec::Mutual(FrameProtection::Tags)).in_tls(), None),
    ]
}

/// Asserts that `server` refuses the client of each adapter, with `alert` if there is one.
fn assert_refused(server: &RunningServer, alert: Option<Error>) {
    for &(name, connect) in CLIENTS {
        for address in &server.addresses {
            // The alert may be lost with the connection, but no other error may arrive.
            let error = connect(address, &server.spec.client()).err();
            let error = error.unwrap_or_else(|| panic!("the server accepted {name}"));
            match alert {
                Some(alert) => {
                    assert!([alert, Error::Transport].contains(&error), "{name}: {error:?}");
                }
                None => {
                    assert!(
                        matches!(error, Error::Truncated(_) | Error::Transport),
                        "{name}: {error:?}"
                    );
                }
            }
        }
    }
}

fn connection_over_the_limit_is_refused<A: Adapter>() {
    for_each_concurrently(refusals(), |&(spec, alert)| {
        let mut setup = ServerSetup::new(spec);
        setup.options.connection_limit = ConnectionLimit::new(2);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
        let client_setup = spec.client();
        let connect = |transport: usize| {
            let mut client = None;
            wait_until("a connection is accepted", || {
                client = A::connect(&server.addresses[transport], &client_setup).ok();
                client.is_some()
            });
            let client = client.unwrap();
            client.send(b"hello").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"hello");
            client
        };
        let mut clients = vec![connect(0), connect(1)];
        server.wait_until_open(2);
        assert_refused(&server, alert);
        for client in &clients {
            client.send(b"still here").unwrap();
            assert_eq!(client.recv().unwrap().unwrap(), b"still here");
        }
        // The next client gets the place of a closed connection.
        drop(clients.pop());
        server.wait_until_open(1);
        drop(connect(1));
    });
}

fn handshake_over_the_limit_is_refused<A: Adapter>() {
    for_each_concurrently(refusals(), |&(spec, alert)| {
        // The scheme has no handshake.
        if !spec.has_key() {
            return;
        }
        let mut options = PoolOptions::default();
        options.handshakes = 2;
        let mut setup = ServerSetup::new(spec);
        setup.pools = Pools::new(&options);
        let server = setup.start::<A>(Streams(|_: ConnectionHandle| Echo));
        let unfinished = [0, 1].map(|transport| SocketPeer::connect(&server.addresses[transport]));
        wait_until("both handshakes have begun", || server.pools.handshake.leased() == 2);
        assert_refused(&server, alert);
        drop(unfinished);
        server.wait_until_empty();
        let client = A::connect(server.tcp(), &spec.client()).unwrap();
        client.send(b"hello").unwrap();
        assert_eq!(client.recv().unwrap().unwrap(), b"hello");
    });
}

/// Returns parameters of a server with these limits per address, also for addresses of this
/// machine.
fn with_peer_limits(spec: ProtocolSpec, handshakes: u32, failures: u32) -> ServerSetup {
    let mut options = PeerLimitOptions::default();
    (options.handshakes, options.failures, options.local) = (handshakes, failures, true);
    options.failure_expiry = 10 * TEST_TIMEOUT;
    let mut setup = ServerSetup::new(spec);
    setup.options.peer_limits = PeerLimits::new(options);
    setup
}

fn address_with_many_failures_is_refused_but_keeps_sessions<A: Adapter>() {
    const FAILURES: u32 = 3;
    for_each_concurrently(
        [
            ProtocolSpec::CHALLENGE,
            ProtocolSpec::MULTIPROCESSING,
            ProtocolSpec::MUTUAL,
            ProtocolSpec::MUTUAL.in_tls(),
        ],
        |&spec| {
            let server = with_peer_limits(spec, 99, FAILURES)
                .start::<A>(Streams(|_: ConnectionHandle| Echo));
            for address in &server.addresses {
                let ask = |client: &dyn Client| {
                    client.send(b"hello").unwrap();
                    assert_eq!(client.recv().unwrap().unwrap(), b"hello");
                };
                let client = A::connect(address, &spec.client()).unwrap();
                ask(&*client);
                for _ in 0..FAILURES {
                    // Whether the handshake or the session fails at the client depends on the
                    // scheme.
                    let wrong = A::connect(address, &spec.client_with_secret(ANOTHER_SECRET));
                    assert!(wrong.is_err() || gets_no_reply(&*wrong.unwrap()));
                    server.wait_until_open(1);
                }
                let other = A::connect(address, &spec.client());
                assert!(other.is_err() || gets_no_reply(&*other.unwrap()));
                ask(&*client);
                drop(client);
                server.wait_until_open(0);
            }
        },
    );
    assert_eq!(LimitExceeded::Failures.code(), "too-many-failures");
}

/// Whether the server ends the connection without a reply.
fn gets_no_reply(client: &dyn Client) -> bool {
    let _ = client.send(b"hello");
    matches!(client.recv(), Ok(None) | Err(_))
}

fn handshakes_of_one_address_are_limited<A: Adapter>() {
    let server = with_peer_limits(ProtocolSpec::CHALLENGE, 2, 99)
        .start::<A>(Streams(|_: ConnectionHandle| Echo));
    for address in &server.addresses {
        // A completed handshake may still count for a moment, so this retries.
        let begin_handshake = || {
            let mut begun = None;
            wait_until("a handshake is accepted", || {
                let (peer, mut challenge) = (SocketPeer::connect(address), [0; 32]);
                let read = std::io::Read::read_exact(&mut &peer.0, &mut challenge);
                begun = read.is_ok().then_some((peer, challenge));
                begun.is_some()
            });
            begun.unwrap()
        };
        let establish = || {
            let (peer, challenge) = begin_handshake();
            peer.send(&response(&challenge));
            peer.send(b"hello");
            assert_eq!(peer.read(5), b"hello");
            peer
        };
        let established: Vec<_> = (0..5).map(|_| establish()).collect();
        let unfinished = [begin_handshake(), begin_handshake()];
        assert!(SocketPeer::connect(address).read_to_end_or_reset().is_empty());
        drop(unfinished);
        drop((established, establish()));
        server.wait_until_open(0);
    }
}
