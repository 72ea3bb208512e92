//! A device and its server during days of virtual time on an unreliable network; properties of
//! their messages.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::VecDeque;
use std::time::Duration;

use countersign::{Instant, Remaining};
use countersign_device::{
    AppId, Backoff, DEFAULT_INTERVAL, DeviceClient, DeviceEvent, DeviceServer, Imei, Kind, Request,
    RequestBody, Response,
};
use countersign_tests::sim::Rng;
use proptest::prelude::*;

const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
const IMEI: &str = "869858030720693";
const TIME: &str = "2026-01-31 23:59:59";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(60);

/// One direction of a link. Messages arrive in order, up to one second late.
#[derive(Default)]
struct Pipe(VecDeque<(Instant, Vec<u8>)>);

impl Pipe {
    fn send(&mut self, bytes: &[u8], rng: &mut Rng, now: Instant) {
        let at = now.saturating_add(Duration::from_micros(rng.within(0, 1_000_000)));
        let at = self.0.back().map_or(at, |(last, _)| at.max(*last));
        self.0.push_back((at, bytes.to_vec()));
    }

    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        (self.next()? <= now).then(|| self.0.pop_front())?.map(|(_, bytes)| bytes)
    }

    fn next(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }
}

/// A connection. One endpoint may be gone without the other's knowledge.
struct Link {
    number: usize,
    client: Option<DeviceClient>,
    server: Option<DeviceServer>,
    up: Pipe,
    down: Pipe,
    /// Messages in flight never arrive.
    frozen: bool,
    /// When the last request of each kind was sent, and when it was answered.
    sent: [Option<Instant>; 3],
    answered: [Option<Instant>; 3],
}

/// Counts of a run.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    registrations: usize,
    heartbeats: usize,
    attempts: usize,
    timed_out: usize,
    taken_over: usize,
    longest_delay: Duration,
}

struct Simulation {
    rng: Rng,
    now: Instant,
    network_up: bool,
    /// When the network goes down or up again.
    network_until: Instant,
    links: Vec<Link>,
    backoff: Backoff,
    /// Reconnections since the last answered heartbeat.
    failures: u32,
    /// When the device connects next; `None` while it is connected.
    connect_at: Option<Instant>,
    /// Number of the link of the latest registration.
    registered_link: Option<usize>,
    outcome: Outcome,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            now: Instant::EPOCH,
            network_up: false,
            network_until: Instant::EPOCH,
            links: Vec::new(),
            backoff: Backoff::new(BASE, CAP),
            failures: 0,
            connect_at: Some(Instant::EPOCH),
            registered_link: None,
            outcome: Outcome::default(),
        }
    }

    fn run(mut self, days: u32) -> Outcome {
        let end = Instant::EPOCH.saturating_add(DAY * days);
        while self.now < end {
            self.change_network();
            self.connect();
            for index in 0..self.links.len() {
                self.serve(index);
                self.device(index);
            }
            self.links.retain(|link| link.client.is_some() || link.server.is_some());
            let live = |link: &&Link| {
                link.server.as_ref().is_some_and(|server| server.registered().is_some())
            };
            assert!(
                self.links.iter().filter(live).count() <= 1,
                "the device is registered on two links"
            );
            let devices = self.links.iter().filter(|link| link.client.is_some()).count();
            assert_eq!(devices + usize::from(self.connect_at.is_some()), 1);
            let next = self.links.iter().flat_map(Link::next).chain(self.connect_at);
            self.now = next.chain([self.network_until]).min().unwrap().max(self.now);
        }
        self.outcome
    }

    /// Interrupts or restores the network when that is due.
    fn change_network(&mut self) {
        if self.network_until > self.now {
            return;
        }
        self.network_up = !self.network_up;
        let longest = if self.network_up { 1200 } else { 300 };
        let time = Duration::from_micros(self.rng.within(1, longest * 1_000_000));
        self.network_until = self.now.saturating_add(time);
        if !self.network_up {
            for index in 0..self.links.len() {
                // Neither endpoint notices the failure, or only the device, or both.
                let kind = self.rng.within(0, 2);
                self.links[index].frozen = true;
                if kind > 0 {
                    self.close_client(index);
                }
                if kind == 2 {
                    self.links[index].server = None;
                }
            }
        }
    }

    /// Ends the device's side of a link. The device waits before it reconnects.
    fn close_client(&mut self, index: usize) {
        if self.links[index].client.take().is_some() {
            self.wait();
        }
    }

    fn wait(&mut self) {
        let longest = CAP.min(BASE.saturating_mul(2u32.saturating_pow(self.failures)));
        assert_eq!(self.backoff.limit(), longest);
        let delay = self.backoff.delay(self.rng.next_u64());
        assert!(delay <= longest, "{delay:?} after {} failures", self.failures);
        self.outcome.longest_delay = self.outcome.longest_delay.max(delay);
        self.failures += 1;
        self.connect_at = Some(self.now.saturating_add(delay));
    }

    fn connect(&mut self) {
        if self.connect_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.outcome.attempts += 1;
        if !self.network_up {
            self.wait();
            return;
        }
        self.connect_at = None;
        let (app_id, imei) = (APP_ID.parse().unwrap(), IMEI.parse().unwrap());
        self.links.push(Link {
            number: self.outcome.attempts,
            client: Some(DeviceClient::new(app_id, imei, self.now)),
            server: Some(DeviceServer::new(DEFAULT_INTERVAL, self.now)),
            up: Pipe::default(),
            down: Pipe::default(),
            frozen: false,
            sent: [None; 3],
            answered: [None; 3],
        });
    }

    fn serve(&mut self, index: usize) {
        let (now, rng) = (self.now, &mut self.rng);
        let link = &mut self.links[index];
        let Some(server) = &mut link.server else { return };
        while !link.frozen
            && let Some(bytes) = link.up.receive(now)
        {
            match server.handle_chunk(&bytes, Remaining::End, now).unwrap() {
                DeviceEvent::Register { .. } => {
                    server.accept();
                    self.registered_link = Some(link.number);
                }
                DeviceEvent::DateTime => server.provide_time(TIME.parse().unwrap()),
                DeviceEvent::Heartbeat => {}
                refused @ DeviceEvent::Rejected { .. } => panic!("{refused:?}"),
            }
            let response = server.poll_response().unwrap();
            link.down.send(response.write(&mut [0; Response::MAX_LEN]), rng, now);
            server.handle_sent(now);
        }
        server.handle_timeout(now);
        if server.error().is_some() {
            assert!(link.frozen || link.client.is_none(), "the server disconnected a live device");
            self.outcome.timed_out += 1;
            link.server = None;
        }
        // A registration on another link takes over the device.
        for link in &mut self.links {
            let registered = link.server.as_ref().is_some_and(|it| it.registered().is_some());
            if registered && self.registered_link != Some(link.number) {
                self.outcome.taken_over += 1;
                link.server = None;
            }
        }
    }

    fn device(&mut self, index: usize) {
        let now = self.now;
        let link = &mut self.links[index];
        let Some(client) = &mut link.client else { return };
        while !link.frozen
            && let Some(bytes) = link.down.receive(now)
        {
            let response = client.handle_chunk(&bytes, Remaining::End, now).unwrap();
            assert_eq!(response.code(), 0);
            link.answered[response.id() as usize] = Some(now);
            if response.id() == Kind::Heartbeat.id() {
                self.backoff.reset();
                self.failures = 0;
            }
            self.outcome.registrations += usize::from(response.id() == Kind::Register.id());
        }
        client.handle_timeout(now);
        while let Some(request) = client.poll_request(now) {
            let kind = request.body.kind() as usize;
            let (sent, answered) = (link.sent[kind], link.answered[kind]);
            assert!(sent <= answered, "two unanswered requests of one kind");
            match request.body {
                RequestBody::Register { .. } => {
                    assert_eq!(sent, None, "the device registered twice");
                }
                RequestBody::DateTime => {
                    assert_eq!(Some(now), link.answered[Kind::Register as usize]);
                }
                RequestBody::Heartbeat => {
                    let from = sent.or(link.answered[Kind::Register as usize]).unwrap();
                    let due = from.saturating_add(DEFAULT_INTERVAL);
                    assert_eq!(
                        now,
                        answered.map_or(due, |at| at.max(due)),
                        "the heartbeat is early or late"
                    );
                    self.outcome.heartbeats += 1;
                }
            }
            link.sent[kind] = Some(now);
            link.up.send(request.write(&mut [0; Request::MAX_LEN]), &mut self.rng, now);
            client.handle_sent(now);
        }
        if client.error().is_some() {
            assert!(
                link.frozen,
                "the device disconnected from a live server: {:?}",
                client.error()
            );
            let late = |(sent, answered): (&Option<Instant>, &Option<Instant>)| {
                sent.filter(|_| sent > answered)
            };
            let sent = link.sent.iter().zip(&link.answered).filter_map(late).min().unwrap();
            let deadline = sent.saturating_add(DeviceClient::DEFAULT_RESPONSE_TIMEOUT);
            assert_eq!(now, deadline, "the device noticed the failure early or late");
            self.close_client(index);
        }
    }
}

impl Link {
    fn next(&self) -> impl Iterator<Item = Instant> + use<> {
        let client = self.client.as_ref().and_then(DeviceClient::poll_timeout);
        let server = self.server.as_ref().and_then(DeviceServer::poll_timeout);
        let up = self.up.next().filter(|_| !self.frozen && self.server.is_some());
        let down = self.down.next().filter(|_| !self.frozen && self.client.is_some());
        [client, server, up, down].into_iter().flatten()
    }
}

#[test]
fn device_sends_heartbeats_for_days_on_unreliable_network() {
    struct Seed(u64);
    impl Drop for Seed {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("seed {}", self.0);
            }
        }
    }
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = number("COUNTERSIGN_SEEDS").unwrap_or(20);
    let mut taken_over = 0;
    for seed in number("COUNTERSIGN_SEED").map_or(0..seeds, |seed| seed..seed + 1) {
        let _printed_on_panic = Seed(seed);
        let outcome = Simulation::new(seed).run(3);
        // In three days the network is up for about 10 minutes, then down for 2.5 minutes, and so
        // on.
        assert!(outcome.registrations > 100 && outcome.heartbeats > 40_000, "{outcome:?}");
        assert!(outcome.timed_out > 0, "{outcome:?}");
        assert!(outcome.longest_delay > CAP / 2, "{outcome:?}");
        taken_over += outcome.taken_over;
        if seed == 0 {
            assert_eq!(outcome, Simulation::new(seed).run(3), "a seed gives two outcomes");
            println!("{outcome:?}");
        }
    }
    assert!(taken_over > 0 || number("COUNTERSIGN_SEED").is_some());
}

proptest! {
    #[test]
    fn parsed_messages_are_written_unchanged(bytes in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        (any::<u8>(), 0u8..4, proptest::collection::vec(b' '..=b'~', 0..60))
            .prop_map(|(first, id, remaining)| [vec![first, id], remaining].concat()),
        (any::<u8>(), "[ -~]{36}[0-9]{15}")
            .prop_map(|(first, remaining)| [&[first, 0], remaining.as_bytes()].concat()),
        "[0-9]{4}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
            .prop_map(|time| [&[2, 0], time.as_bytes()].concat()),
    ]) {
        if let Ok(request) = Request::parse(&bytes) {
            let mut written = [0; Request::MAX_LEN];
            prop_assert_eq!(request.write(&mut written), &bytes);
        }
        if let Ok(response) = Response::parse(&bytes) {
            let mut written = [0; Response::MAX_LEN];
            prop_assert_eq!(response.write(&mut written), &bytes);
        }
    }

    #[test]
    fn message_in_any_chunks_is_answered_with_its_id(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
        cuts in proptest::collection::vec(0usize..60, 0..4),
    ) {
        let now = Instant::EPOCH;
        let mut server = DeviceServer::new(DEFAULT_INTERVAL, now);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for cut in cuts {
            prop_assert_eq!(server.handle_chunk(&bytes[from..cut], Remaining::More, now), None);
            from = cut;
        }
        let event = server.handle_chunk(&bytes[from..], Remaining::End, now);
        prop_assert!(event.is_some());
        server.accept();
        let response = server.poll_response().unwrap();
        prop_assert_eq!(response.id(), bytes.get(1).map_or(-1, |id| id.cast_signed()));
        let accepted = Request::parse(&bytes).is_ok_and(|it| it.body != RequestBody::DateTime);
        prop_assert_eq!(response.code() == 0, accepted);
    }

    #[test]
    fn app_id_has_36_bytes_and_imei_15_digits(text in "[ -~]{0,40}") {
        prop_assert_eq!(text.parse::<AppId>().is_ok(), text.len() == 36);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(text.parse::<Imei>().is_ok(), text.len() == 15 && digits);
    }
}
