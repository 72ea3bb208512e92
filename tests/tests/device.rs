//! Devices and their server: a network that comes and goes, for days of virtual time; and any bytes.

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

/// Messages on their way, in order.
#[derive(Default)]
struct Way(VecDeque<(Instant, Vec<u8>)>);

impl Way {
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

/// A connection. Either end may be gone while the other does not know.
struct Link {
    number: usize,
    client: Option<DeviceClient>,
    server: Option<DeviceServer>,
    up: Way,
    down: Way,
    /// Nothing gets through any more.
    frozen: bool,
    /// When the last request of each kind was sent, and answered.
    sent: [Option<Instant>; 3],
    answered: [Option<Instant>; 3],
}

/// What a run came to.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    registrations: usize,
    heartbeats: usize,
    attempts: usize,
    given_up: usize,
    taken_over: usize,
    longest_delay: Duration,
}

struct World {
    rng: Rng,
    now: Instant,
    fair: bool,
    weather_until: Instant,
    links: Vec<Link>,
    backoff: Backoff,
    /// Waits since the last heartbeat that was answered.
    failures: u32,
    /// When the device connects, unless it is connected.
    connect_at: Option<Instant>,
    /// Which link the device is registered by.
    holder: Option<usize>,
    outcome: Outcome,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            now: Instant::EPOCH,
            fair: false,
            weather_until: Instant::EPOCH,
            links: Vec::new(),
            backoff: Backoff::new(BASE, CAP),
            failures: 0,
            connect_at: Some(Instant::EPOCH),
            holder: None,
            outcome: Outcome::default(),
        }
    }

    fn run(mut self, days: u32) -> Outcome {
        let end = Instant::EPOCH.saturating_add(DAY * days);
        while self.now < end {
            self.weather();
            self.connect();
            for index in 0..self.links.len() {
                self.serve(index);
                self.device(index);
            }
            self.links.retain(|link| link.client.is_some() || link.server.is_some());
            let live = |link: &&Link| {
                link.server.as_ref().is_some_and(|server| server.registered().is_some())
            };
            assert!(self.links.iter().filter(live).count() <= 1, "registered twice at once");
            let devices = self.links.iter().filter(|link| link.client.is_some()).count();
            assert_eq!(devices + usize::from(self.connect_at.is_some()), 1);
            let next = self.links.iter().flat_map(Link::next).chain(self.connect_at);
            self.now = next.chain([self.weather_until]).min().unwrap().max(self.now);
        }
        self.outcome
    }

    fn weather(&mut self) {
        if self.weather_until > self.now {
            return;
        }
        self.fair = !self.fair;
        let (longest, least) = if self.fair { (1200, 1) } else { (300, 1) };
        let time = Duration::from_micros(self.rng.within(least, longest * 1_000_000));
        self.weather_until = self.now.saturating_add(time);
        if !self.fair {
            for index in 0..self.links.len() {
                // Neither end knows, or the device alone does, or both do.
                let kind = self.rng.within(0, 2);
                self.links[index].frozen = true;
                if kind > 0 {
                    self.lose(index);
                }
                if kind == 2 {
                    self.links[index].server = None;
                }
            }
        }
    }

    /// The device's end is gone: it waits.
    fn lose(&mut self, index: usize) {
        if self.links[index].client.take().is_some() {
            self.wait();
        }
    }

    fn wait(&mut self) {
        let longest = CAP.min(BASE.saturating_mul(2u32.saturating_pow(self.failures)));
        assert_eq!(self.backoff.limit(), longest);
        let delay = self.backoff.delay(self.rng.any());
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
        if !self.fair {
            self.wait();
            return;
        }
        self.connect_at = None;
        let (app_id, imei) = (APP_ID.parse().unwrap(), IMEI.parse().unwrap());
        self.links.push(Link {
            number: self.outcome.attempts,
            client: Some(DeviceClient::new(app_id, imei, self.now)),
            server: Some(DeviceServer::new(DEFAULT_INTERVAL, self.now)),
            up: Way::default(),
            down: Way::default(),
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
                    self.holder = Some(link.number);
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
            assert!(link.frozen || link.client.is_none(), "an honest device was given up");
            self.outcome.given_up += 1;
            link.server = None;
        }
        // Who registered elsewhere is let go.
        for link in &mut self.links {
            let registered = link.server.as_ref().is_some_and(|it| it.registered().is_some());
            if registered && self.holder != Some(link.number) {
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
            assert!(sent <= answered, "two requests of one kind");
            match request.body {
                RequestBody::Register { .. } => assert_eq!(sent, None, "registered twice"),
                RequestBody::DateTime => {
                    assert_eq!(Some(now), link.answered[Kind::Register as usize]);
                }
                RequestBody::Heartbeat => {
                    let from = sent.or(link.answered[Kind::Register as usize]).unwrap();
                    let due = from.saturating_add(DEFAULT_INTERVAL);
                    assert_eq!(now, answered.map_or(due, |at| at.max(due)), "out of time");
                    self.outcome.heartbeats += 1;
                }
            }
            link.sent[kind] = Some(now);
            link.up.send(request.write(&mut [0; Request::MAX_LEN]), &mut self.rng, now);
            client.handle_sent(now);
        }
        if client.error().is_some() {
            assert!(link.frozen, "an honest server was given up: {:?}", client.error());
            let late = |(sent, answered): (&Option<Instant>, &Option<Instant>)| {
                sent.filter(|_| sent > answered)
            };
            let asked = link.sent.iter().zip(&link.answered).filter_map(late).min().unwrap();
            let deadline = asked.saturating_add(DeviceClient::DEFAULT_RESPONSE_TIMEOUT);
            assert_eq!(now, deadline, "noticed late");
            self.lose(index);
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
fn a_device_keeps_its_heart_beating_through_days_of_a_network_that_comes_and_goes() {
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
        let _named = Seed(seed);
        let outcome = World::new(seed).run(3);
        // Three days of 25 minutes each way, more or less.
        assert!(outcome.registrations > 100 && outcome.heartbeats > 40_000, "{outcome:?}");
        assert!(outcome.given_up > 0, "{outcome:?}");
        assert!(outcome.longest_delay > CAP / 2, "{outcome:?}");
        taken_over += outcome.taken_over;
        if seed == 0 {
            assert_eq!(outcome, World::new(seed).run(3), "not the same twice");
            println!("{outcome:?}");
        }
    }
    assert!(taken_over > 0 || number("COUNTERSIGN_SEED").is_some());
}

proptest! {
    #[test]
    fn what_is_read_is_what_is_written(bytes in prop_oneof![
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
    fn every_message_is_answered_with_its_id_however_it_is_cut(
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
        let asked = server.handle_chunk(&bytes[from..], Remaining::End, now);
        prop_assert!(asked.is_some());
        server.accept();
        let response = server.poll_response().unwrap();
        prop_assert_eq!(response.id(), bytes.get(1).map_or(-1, |id| id.cast_signed()));
        let fine = Request::parse(&bytes).is_ok_and(|it| it.body != RequestBody::DateTime);
        prop_assert_eq!(response.code() == 0, fine);
    }

    #[test]
    fn texts_are_exactly_as_long_as_they_are_to_be(text in "[ -~]{0,40}") {
        prop_assert_eq!(text.parse::<AppId>().is_ok(), text.len() == 36);
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        prop_assert_eq!(text.parse::<Imei>().is_ok(), text.len() == 15 && digits);
    }
}
