//! Both endpoints of a TLS connection, with any session inside it.
//!
//! An attacker on the path forges, changes, drops, repeats, reorders and truncates records, while
//! applications and drivers make arbitrary calls. Nothing may panic. A session receives what its
//! peer sent, in order, and the end of the stream only if the peer meant it and all before it has
//! arrived. An error stays. Neither endpoint holds more memory than promised, or waits without a
//! reason; and both end, whatever was done.
//!
//! The randomness of TLS comes from the system. All lengths are the same each time, so an input has
//! the same effect each time, except where it depends on the random bytes themselves.
#![no_main]

#[path = "../common.rs"]
mod common;
mod configs;
mod endpoint;
mod memory;
mod observed_session;

use std::time::Duration;

use arbitrary::Arbitrary;
use common::{KeySet, SessionSpec};
use countersign::{CloseReason, Config, Instant, Protocol, Role};
use countersign_tls::Tls;
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::ServerName;

use configs::{NAME, configs};
use endpoint::{Endpoint, Tamper};
use memory::{BUSY, IDLE, allocated};
use observed_session::{Log, ObservedSession};

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    spec: SessionSpec,
    /// TLS 1.2.
    tls12: bool,
    /// The client must present a certificate.
    client_auth: bool,
    /// The steps start after both handshakes.
    established: bool,
    receive: u16,
    send: u16,
}

/// An action at one of the endpoints.
#[derive(Arbitrary, Debug)]
struct Step<'a> {
    server: bool,
    action: Action<'a>,
}

#[derive(Arbitrary, Debug)]
enum Action<'a> {
    /// Both endpoints do all they can.
    Exchange,
    Events,
    Transmit(u16),
    Receive(u16),
    Send(u16),
    Consume,
    Finish,
    /// Aborts; if true, the driver transmits before it polls events.
    Abort(bool),
    /// Advances the clock; if true, the driver transmits before it polls events.
    Advance(u32, bool),
    /// Changes the bytes in transit to it.
    Tamper(Tamper<'a>),
}

struct Fuzz {
    keys: KeySet,
    now: Instant,
    /// Client and server.
    endpoints: [Endpoint; 2],
    /// Nothing but ordinary calls of applications and drivers has happened.
    undisturbed: bool,
    /// Memory allocated before, and the most that the sessions' buffers take.
    base: isize,
    buffers: usize,
}

impl Fuzz {
    fn new(setup: Setup) -> Self {
        let Setup { spec, tls12, client_auth, .. } = setup;
        let configs = configs(tls12, client_auth);
        let base = allocated();
        let mut buffers = 0;
        let mut observed = |role| {
            let config = spec.config(role);
            let extra = (setup.receive.into(), setup.send.into());
            let session = spec.session(role, &config, extra);
            // The session's own three, and the receive space of the observer.
            buffers += config.handshake_len() + 2 * (config.receive_len() + extra.0);
            buffers += Config::MIN_BUFFER + extra.1;
            let observed = Box::new(ObservedSession::new(session));
            let log = observed.log.clone();
            (observed, log)
        };
        let name = ServerName::try_from(NAME).expect("a name");
        let (inner, log) = observed(Role::Client);
        let client = Tls::client(configs.client.clone(), name, inner).expect("a client");
        let client = Endpoint::new(client, log);
        let (inner, log) = observed(Role::Server);
        let server = Tls::server(configs.server.clone(), inner).expect("a server");
        let server = Endpoint::new(server, log);
        let (endpoints, keys, now) = ([client, server], spec.keys(), Instant::EPOCH);
        Self { keys, now, endpoints, undisturbed: true, base, buffers }
    }

    /// Checks what holds at any time.
    fn check(&self) {
        for at in [0, 1] {
            let (end, peer) = (&self.endpoints[at], &self.endpoints[1 - at]);
            let (end, peer) = (end.log.borrow(), peer.log.borrow());
            assert!(peer.sent.starts_with(&end.received), "received what the peer did not send");
            if end.eof {
                assert!(
                    peer.finish_intended && end.received.len() == peer.sent.len(),
                    "the end of the stream was forged"
                );
            }
        }
        let ours: usize = self.endpoints.iter().map(Endpoint::capacity).sum();
        let held = allocated() - self.base - (ours + self.buffers) as isize;
        // rustls releases its buffers when it reads, which it does not do after close_notify.
        let idle = |end: &Endpoint| {
            let Log { finished, eof, .. } = *end.log.borrow();
            end.protocol.is_idle() && !finished && !eof
        };
        let idle = self.endpoints.iter().all(idle);
        let promised = if idle { IDLE } else { BUSY };
        assert!(held <= 2 * promised, "{held} bytes are held, idle: {idle}");
    }

    fn transmit(&mut self, at: usize, limit: usize) -> bool {
        let sent = self.endpoints[at].transmit(limit, self.now);
        let shut = self.endpoints[at].protocol.wants_shutdown();
        let to = &mut self.endpoints[1 - at];
        // Nothing passes after a truncation.
        if !to.shut {
            to.wire.extend_from_slice(&sent);
            to.shut = shut;
        }
        !sent.is_empty()
    }

    /// Lets both endpoints do all they can, until neither makes progress.
    fn exchange(&mut self) {
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for at in [0, 1] {
                let end = &mut self.endpoints[at];
                moved |= end.events(&self.keys, self.now);
                if std::mem::take(&mut end.holds_chunk) {
                    end.protocol.consume(self.now);
                    moved = true;
                }
                moved |= self.transmit(at, usize::MAX);
                moved |= self.endpoints[at].receive(usize::MAX, self.now);
                self.check();
            }
            rounds += 1;
            assert!(rounds < 20_000, "no end of progress");
            if !moved {
                return;
            }
        }
    }

    fn step(&mut self, Step { server, action }: Step<'_>) {
        let (at, now) = (usize::from(server), self.now);
        let end = &mut self.endpoints[at];
        match action {
            Action::Exchange => self.exchange(),
            Action::Events => {
                end.events(&self.keys, now);
            }
            Action::Transmit(limit) => {
                self.transmit(at, limit.into());
            }
            Action::Receive(limit) => {
                end.receive(limit.into(), now);
            }
            Action::Send(len) => {
                let _ = end.protocol.split().1.send(&vec![len as u8; len.into()]);
            }
            Action::Consume => {
                end.protocol.consume(now);
                end.holds_chunk = false;
            }
            Action::Finish => end.protocol.finish(now),
            Action::Abort(transmit) => {
                self.undisturbed = false;
                end.protocol.abort(CloseReason::Application, now);
                if transmit {
                    self.transmit(at, usize::MAX);
                }
            }
            Action::Advance(micros, transmit) => {
                self.undisturbed = false;
                self.now = now.saturating_add(Duration::from_micros(micros.into()));
                self.advance();
                if transmit {
                    self.transmit(at, usize::MAX);
                }
            }
            Action::Tamper(how) => {
                self.undisturbed = false;
                end.tamper(how);
            }
        }
    }

    fn advance(&mut self) {
        for end in &mut self.endpoints {
            end.protocol.handle_timeout(self.now);
            let next = end.protocol.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "poll_timeout returns a past deadline"
            );
        }
    }

    /// Ends both sessions, and checks that they end whatever was done before.
    fn end(&mut self) {
        self.exchange();
        for end in &mut self.endpoints {
            end.protocol.finish(self.now);
        }
        self.exchange();
        if self.undisturbed {
            for at in [0, 1] {
                let (end, peer) = (&self.endpoints[at], &self.endpoints[1 - at]);
                assert!(end.closed && end.error.is_none(), "{:?}", end.error);
                assert_eq!(end.log.borrow().received.len(), peer.log.borrow().sent.len());
            }
        }
        for end in &mut self.endpoints {
            end.shut = true;
        }
        self.exchange();
        for _ in 0..8 {
            let Some(at) =
                self.endpoints.iter().filter_map(|end| end.protocol.poll_timeout()).min()
            else {
                break;
            };
            self.now = self.now.max(at);
            self.advance();
            self.exchange();
        }
        for end in &self.endpoints {
            assert!(end.protocol.is_done(), "{:?} {:?}", end.protocol, end.error);
            assert!(end.closed || end.error.is_some());
        }
    }
}

/// Makes everything that is made once, so that it is not counted.
fn warm_up() {
    for tls12 in [false, true] {
        let (spec, client_auth, established) = (SessionSpec::U32, true, true);
        Fuzz::new(Setup { spec, tls12, client_auth, established, receive: 0, send: 0 }).exchange();
    }
}

fuzz_target!(
    init: warm_up(),
    |input: (Setup, Vec<Step<'_>>)| {
        let (setup, steps) = input;
        let mut fuzz = Fuzz::new(setup);
        if setup.established {
            fuzz.exchange();
            assert!(fuzz.endpoints.iter().all(|end| end.protocol.peer().is_some()));
        }
        for step in steps {
            fuzz.step(step);
            fuzz.check();
        }
        fuzz.end();
    }
);
