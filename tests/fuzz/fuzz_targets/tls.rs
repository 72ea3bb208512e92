//! Both ends of one TLS connection, with any session in it, and somebody on the wire who makes up,
//! changes, drops, repeats and reorders records, and cuts them off; while applications and drivers make
//! any choices. Nothing may panic. What a session hears is what the other said, in its order, and it
//! hears of an end only if that was meant and all before it has come. An error stays. Neither end holds
//! more memory than is promised, nor waits for nothing; and whatever was done, both come to an end.
//!
//! What TLS draws at random comes from the system. All lengths are the same each time, so an input means
//! the same each time, but for what depends on the bytes themselves.
#![no_main]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::Arbitrary;
use common::{Ring, Speech};
use countersign::{
    Candidates, Error, Event, Instant, KeyError, KeyRequest, Protocol, Outbox, Peer, CloseReason, KeyRejection,
    Role, Session,
};
use countersign_tls::Tls;
use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// What one connection may hold beside its session's buffers, in bytes: idle, and otherwise.
const IDLE: isize = 16 << 10;
const BUSY: isize = 96 << 10;

/// Counts what is held.
struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    speech: Speech,
    /// TLS 1.2.
    old: bool,
    /// The client has to show a certificate.
    known: bool,
    /// Whoever changes things comes when both handshakes are over.
    open: bool,
    receive: u16,
    send: u16,
}

/// Something at one of the two ends.
#[derive(Arbitrary, Debug)]
struct Step<'a> {
    server: bool,
    what: What<'a>,
}

#[derive(Arbitrary, Debug)]
enum What<'a> {
    /// Both ends do all they can.
    Exchange,
    Events,
    Transmit(u16),
    Hear(u16),
    Send(u16),
    Consume,
    Finish,
    /// And its driver transmits before it looks what came of it, which it may.
    Abort(bool),
    Pass(u32, bool),
    /// Of what is on the way to it:
    Wire(Wire<'a>),
}

#[derive(Arbitrary, Debug)]
enum Wire<'a> {
    Bytes(&'a [u8]),
    Record(u8, &'a [u8]),
    Flip(u16, u8),
    Swap,
    Repeat,
    Drop,
    Cut(u16),
}

/// What went through a session.
#[derive(Default)]
struct Log {
    said: Vec<u8>,
    /// How much of it was reported to have left; the rest is what it offered last.
    left: usize,
    heard: Vec<u8>,
    /// It told of an end; and it was told of one before.
    finished: bool,
    eof: bool,
    /// Its application finished, and did not abort before all was said.
    meant: bool,
    failed: bool,
}

/// A session that is looked at.
struct Watched {
    session: Session<Vec<u8>>,
    space: Vec<u8>,
    log: Rc<RefCell<Log>>,
}

impl Protocol for Watched {
    fn peer(&self) -> Option<Peer<'_>> {
        self.session.peer()
    }

    fn key_request(&self) -> Option<KeyRequest<'_>> {
        self.session.key_request()
    }

    fn wants_read(&self) -> bool {
        self.session.wants_read()
    }

    fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    fn awaiting_buffer(&self) -> bool {
        self.session.awaiting_buffer()
    }

    fn wants_shutdown(&self) -> bool {
        self.session.wants_shutdown()
    }

    fn is_done(&self) -> bool {
        self.session.is_done()
    }

    fn is_receiving(&self) -> bool {
        self.session.is_receiving()
    }

    fn is_idle(&self) -> bool {
        self.session.is_idle()
    }

    fn provide_key(
        &mut self,
        answer: Result<Candidates<'_>, KeyRejection>,
        now: Instant,
    ) -> Result<(), KeyError> {
        self.session.provide_key(answer, now)
    }

    fn bind_channel(&mut self, exporter: &[u8; 32], now: Instant) {
        self.session.bind_channel(exporter, now);
    }

    fn split(&mut self) -> (&[u8], Outbox<'_>) {
        self.session.split()
    }

    fn split_peer(&mut self) -> Option<(Peer<'_>, Outbox<'_>)> {
        self.session.split_peer()
    }

    fn consume(&mut self, now: Instant) {
        self.session.consume(now);
    }

    fn finish(&mut self, now: Instant) {
        let mut log = self.log.borrow_mut();
        log.meant |= !log.failed;
        self.session.finish(now);
    }

    fn abort(&mut self, why: CloseReason, now: Instant) {
        let mut log = self.log.borrow_mut();
        log.meant &= self.session.wants_shutdown();
        log.failed = true;
        self.session.abort(why, now);
    }

    fn recv_space(&mut self) -> &mut [u8] {
        let len = self.session.recv_space().len();
        self.space.resize(len, 0);
        &mut self.space
    }

    fn handle_received(&mut self, n: usize, now: Instant) {
        self.log.borrow_mut().heard.extend_from_slice(&self.space[..n]);
        self.session.recv_space()[..n].copy_from_slice(&self.space[..n]);
        self.session.handle_received(n, now);
    }

    fn handle_eof(&mut self, now: Instant) {
        let mut log = self.log.borrow_mut();
        log.eof |= !log.finished;
        self.session.handle_eof(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
    }

    fn poll_event(&mut self, now: Instant) -> Result<Option<Event>, Error> {
        let event = self.session.poll_event(now);
        let mut log = self.log.borrow_mut();
        log.finished |= event == Ok(Some(Event::PeerFinished));
        log.failed |= event.is_err();
        event
    }

    fn poll_transmit(&mut self, now: Instant) -> &[u8] {
        let bytes = self.session.poll_transmit(now);
        let mut log = self.log.borrow_mut();
        // TLS may take less than it is offered, and asks again when that has left.
        let left = log.left;
        log.said.truncate(left);
        log.said.extend_from_slice(bytes);
        bytes
    }

    fn handle_transmitted(&mut self, n: usize, now: Instant) {
        let mut log = self.log.borrow_mut();
        let (from, to) = (log.left, log.left + n);
        // What it would say if it were asked now.
        let pending = self.session.poll_transmit(now);
        assert!(
            pending.starts_with(&log.said[from..to]),
            "what it takes for sent is something else"
        );
        log.left = to;
        self.session.handle_transmitted(n, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout()
    }
}

/// One end, and what is on the way to it.
struct End {
    machine: Tls<Box<Watched>>,
    log: Rc<RefCell<Log>>,
    error: Option<Error>,
    closed: bool,
    at_hand: bool,
    wire: Vec<u8>,
    /// Nothing comes behind that.
    shut: bool,
    told: bool,
}

impl End {
    fn event(&mut self, ring: &Ring, now: Instant) -> bool {
        match self.machine.poll_event(now) {
            Ok(None) => {
                assert_eq!(self.error, None, "an error went away");
                false
            }
            Ok(Some(event)) => {
                assert!(self.error.is_none() && !self.closed, "an event behind the end");
                match event {
                    Event::KeyNeeded => {
                        let request = self.machine.key_request().expect("what it is for");
                        let answer = ring.answer(&request);
                        self.machine.provide_key(answer, now).expect("the right kind");
                    }
                    Event::Chunk { .. } => {
                        assert!(!self.at_hand);
                        self.at_hand = true;
                    }
                    Event::Closed => self.closed = true,
                    _ => {}
                }
                true
            }
            Err(error) => {
                assert!(self.error.is_none_or(|before| before == error), "the error changed");
                assert!(!self.closed, "an error behind the end");
                self.error = Some(error);
                self.at_hand = false;
                false
            }
        }
    }

    /// All events that there are; whether there were any.
    fn events(&mut self, ring: &Ring, now: Instant) -> bool {
        let before = self.error;
        let mut moved = false;
        while self.event(ring, now) {
            moved = true;
        }
        assert!(!self.event(ring, now), "there was more behind the last");
        moved || self.error != before
    }

    /// At most so many bytes; what it said.
    fn said(&mut self, limit: usize, now: Instant) -> Vec<u8> {
        let wants = self.machine.wants_write();
        let pending = self.machine.poll_transmit(now);
        assert!(!wants || !pending.is_empty(), "it wants to write nothing");
        let n = pending.len().min(limit);
        let said = pending[..n].to_vec();
        self.machine.handle_transmitted(n, now);
        said
    }

    /// At most so many bytes; whether it heard any, or their end.
    fn hears(&mut self, limit: usize, now: Instant) -> bool {
        let wants = self.machine.wants_read();
        let space = self.machine.recv_space();
        assert_eq!(wants, !space.is_empty());
        let n = space.len().min(self.wire.len()).min(limit);
        space[..n].copy_from_slice(&self.wire[..n]);
        self.machine.handle_received(n, now);
        self.wire.drain(..n);
        let end = wants && self.wire.is_empty() && self.shut && !self.told;
        if end {
            self.told = true;
            self.machine.handle_eof(now);
        }
        n > 0 || end
    }

    /// Where the first two records end that are on the way.
    fn records(&self) -> Vec<usize> {
        let (mut ends, mut at) = (Vec::new(), 0);
        while ends.len() < 2 {
            let Some(&[_, _, _, high, low]) = self.wire.get(at..at + 5) else { break };
            at += 5 + usize::from(u16::from_be_bytes([high, low]));
            if at > self.wire.len() {
                break;
            }
            ends.push(at);
        }
        ends
    }

    fn meddle(&mut self, what: Wire<'_>) {
        match (what, &self.records()[..]) {
            (Wire::Bytes(bytes), _) => {
                self.wire.splice(..0, bytes.iter().copied());
            }
            (Wire::Record(kind, bytes), _) => {
                let [high, low] = (bytes.len() as u16).to_be_bytes();
                let record = [&[20 + kind % 5, 3, 3, high, low], bytes].concat();
                self.wire.splice(..0, record);
            }
            (Wire::Flip(at, bit), _) => {
                let len = self.wire.len().max(1);
                if let Some(byte) = self.wire.get_mut(usize::from(at) % len) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            (Wire::Swap, &[first, second]) => self.wire[..second].rotate_left(first),
            (Wire::Repeat, &[first, ..]) => {
                let record = self.wire[..first].to_vec();
                self.wire.splice(..0, record);
            }
            (Wire::Drop, &[first, ..]) => {
                self.wire.drain(..first);
            }
            (Wire::Cut(at), _) => {
                self.wire.truncate(at.into());
                self.shut = true;
            }
            _ => {}
        }
    }

    /// What the harness holds for it.
    fn capacity(&self) -> usize {
        let log = self.log.borrow();
        self.wire.capacity() + log.said.capacity() + log.heard.capacity()
    }
}

struct Fuzz {
    ring: Ring,
    now: Instant,
    /// Client and server.
    ends: [End; 2],
    /// Nothing was done to either but what applications and drivers do.
    calm: bool,
    /// Held before there was any of it; and the most for which the sessions are to be thanked.
    base: isize,
    buffers: usize,
}

impl Fuzz {
    fn new(setup: Setup) -> Self {
        let Setup { speech, old, known, .. } = setup;
        let configs = configs(old, known);
        let base = HELD.load(Ordering::Relaxed);
        let mut buffers = 0;
        let mut watched = |role| {
            let config = speech.config(role);
            let extra = (setup.receive.into(), setup.send.into());
            let session = speech.session(role, &config, extra);
            // Its own three, and what is read to here.
            buffers += config.handshake_len() + 2 * (config.receive_len() + extra.0);
            buffers += countersign::Config::MIN_BUFFER + extra.1;
            let log = Rc::new(RefCell::new(Log::default()));
            (Box::new(Watched { session, space: Vec::new(), log: log.clone() }), log)
        };
        let end = |(machine, log)| End {
            machine,
            log,
            error: None,
            closed: false,
            at_hand: false,
            wire: Vec::new(),
            shut: false,
            told: false,
        };
        let name = ServerName::try_from(NAME).expect("a name");
        let (inner, log) = watched(Role::Client);
        let client = Tls::client(configs.client.clone(), name, inner).expect("a client");
        let client = end((client, log));
        let (inner, log) = watched(Role::Server);
        let server = end((Tls::server(configs.server.clone(), inner).expect("a server"), log));
        let (ends, ring, now) = ([client, server], speech.ring(), Instant::EPOCH);
        Self { ring, now, ends, calm: true, base, buffers }
    }

    /// What holds at any time.
    fn check(&self) {
        for at in [0, 1] {
            let (end, peer) = (&self.ends[at], &self.ends[1 - at]);
            let (end, peer) = (end.log.borrow(), peer.log.borrow());
            assert!(peer.said.starts_with(&end.heard), "it heard what the other did not say");
            if end.eof {
                assert!(peer.meant && end.heard.len() == peer.said.len(), "an end that was none");
            }
        }
        let ours: usize = self.ends.iter().map(End::capacity).sum();
        let held = HELD.load(Ordering::Relaxed) - self.base - (ours + self.buffers) as isize;
        // Behind close_notify rustls does not read, which is when it would give back what it has.
        let idle = |end: &End| {
            let Log { finished, eof, .. } = *end.log.borrow();
            end.machine.is_idle() && !finished && !eof
        };
        let idle = self.ends.iter().all(idle);
        let promised = if idle { IDLE } else { BUSY };
        assert!(held <= 2 * promised, "{held} bytes are held, idle: {idle}");
    }

    fn transmit(&mut self, at: usize, limit: usize) -> bool {
        let said = self.ends[at].said(limit, self.now);
        let shut = self.ends[at].machine.wants_shutdown();
        let to = &mut self.ends[1 - at];
        // Whoever cut it off lets nothing more through.
        if !to.shut {
            to.wire.extend_from_slice(&said);
            to.shut = shut;
        }
        !said.is_empty()
    }

    /// Until nothing moves any more.
    fn exchange(&mut self) {
        let mut rounds = 0;
        loop {
            let mut moved = false;
            for at in [0, 1] {
                let end = &mut self.ends[at];
                moved |= end.events(&self.ring, self.now);
                if std::mem::take(&mut end.at_hand) {
                    end.machine.consume(self.now);
                    moved = true;
                }
                moved |= self.transmit(at, usize::MAX);
                moved |= self.ends[at].hears(usize::MAX, self.now);
                self.check();
            }
            rounds += 1;
            assert!(rounds < 20_000, "it goes round and round");
            if !moved {
                return;
            }
        }
    }

    fn step(&mut self, Step { server, what }: Step<'_>) {
        let (at, now) = (usize::from(server), self.now);
        let end = &mut self.ends[at];
        match what {
            What::Exchange => self.exchange(),
            What::Events => {
                end.events(&self.ring, now);
            }
            What::Transmit(limit) => {
                self.transmit(at, limit.into());
            }
            What::Hear(limit) => {
                end.hears(limit.into(), now);
            }
            What::Send(len) => {
                let _ = end.machine.split().1.send(&vec![len as u8; len.into()]);
            }
            What::Consume => {
                end.machine.consume(now);
                end.at_hand = false;
            }
            What::Finish => end.machine.finish(now),
            What::Abort(transmit) => {
                self.calm = false;
                end.machine.abort(CloseReason::Application, now);
                if transmit {
                    self.transmit(at, usize::MAX);
                }
            }
            What::Pass(micros, transmit) => {
                self.calm = false;
                self.now = now.saturating_add(Duration::from_micros(micros.into()));
                self.pass();
                if transmit {
                    self.transmit(at, usize::MAX);
                }
            }
            What::Wire(what) => {
                self.calm = false;
                end.meddle(what);
            }
        }
    }

    fn pass(&mut self) {
        for end in &mut self.ends {
            end.machine.handle_timeout(self.now);
            let next = end.machine.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a deadline that has passed");
        }
    }

    /// Whatever was done, it ends.
    fn end(&mut self) {
        self.exchange();
        for end in &mut self.ends {
            end.machine.finish(self.now);
        }
        self.exchange();
        if self.calm {
            for at in [0, 1] {
                let (end, peer) = (&self.ends[at], &self.ends[1 - at]);
                assert!(end.closed && end.error.is_none(), "{:?}", end.error);
                assert_eq!(end.log.borrow().heard.len(), peer.log.borrow().said.len());
            }
        }
        for end in &mut self.ends {
            end.shut = true;
        }
        self.exchange();
        for _ in 0..8 {
            let Some(at) = self.ends.iter().filter_map(|end| end.machine.poll_timeout()).min()
            else {
                break;
            };
            self.now = self.now.max(at);
            self.pass();
            self.exchange();
        }
        for end in &self.ends {
            assert!(end.machine.is_done(), "{:?} {:?}", end.machine, end.error);
            assert!(end.closed || end.error.is_some());
        }
    }
}

const NAME: &str = "server.example";

struct Configs {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Both ends show one certificate, whose signatures are all of one length, and trust it.
fn make(version: &'static SupportedProtocolVersion, known: bool) -> Configs {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let params = CertificateParams::new(vec![NAME.into()]).expect("a name");
    let own: CertificateDer<'static> = params.self_signed(&key).expect("a certificate").into();
    let key = || PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(own.clone()).expect("a root");
    let roots = Arc::new(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let mut client = builder
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(vec![own.clone()], key())
        .expect("a certificate");
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
    let clients = if known { clients } else { clients.allow_unauthenticated() };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_client_cert_verifier(clients.build().expect("a root"))
        .with_single_cert(vec![own], key())
        .expect("a certificate");
    (client.require_ems, server.require_ems) = (true, true);
    client.resumption = rustls::client::Resumption::disabled();
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Configs { client: Arc::new(client), server: Arc::new(server) }
}

fn configs(old: bool, known: bool) -> &'static Configs {
    static CONFIGS: OnceLock<[Configs; 4]> = OnceLock::new();
    let all = CONFIGS.get_or_init(|| {
        [(&TLS13, false), (&TLS13, true), (&TLS12, false), (&TLS12, true)]
            .map(|(version, known)| make(version, known))
    });
    &all[2 * usize::from(old) + usize::from(known)]
}

/// What is made once is not to be counted.
fn warm_up() {
    for old in [false, true] {
        let (speech, known, open) = (Speech::U32, true, true);
        Fuzz::new(Setup { speech, old, known, open, receive: 0, send: 0 }).exchange();
    }
}

fuzz_target!(
    init: warm_up(),
    |input: (Setup, Vec<Step<'_>>)| {
        let (setup, steps) = input;
        let mut fuzz = Fuzz::new(setup);
        if setup.open {
            fuzz.exchange();
            assert!(fuzz.ends.iter().all(|end| end.machine.peer().is_some()));
        }
        for step in steps {
            fuzz.step(step);
            fuzz.check();
        }
        fuzz.end();
    }
);
