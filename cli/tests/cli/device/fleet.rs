//! A thousand devices on one thread, and a server that dies.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::{Instant as Moment, Key, Role};
use countersign_device::Device;
use countersign_device::{Backoff, DeviceClient, Response};
use countersign_host::{Address, BoxedProtocol, Clock, ConnectionEvent, ProtocolFactory};
use countersign_mio::Connections;
use mio::{Events, Poll, Token};
use rustix::process::Signal;

use super::{APP_ID, serve, status};
use crate::KEY;
use crate::common::{At, PATIENCE, Scratch, allow_files};
use crate::tls::inside::{What, clients, sessions};
use crate::tls::{OURS, with_certs};

const DEVICES: usize = 1000;
/// For the tests here, and those beside them.
const FILES: u64 = 2 * DEVICES as u64 + 1000;
const INTERVAL: Duration = Duration::from_secs(3);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_secs(4);

type Tell = Box<dyn FnMut(&Response) -> ControlFlow<()>>;

/// Devices in one event loop, each with at most one connection.
struct Fleet {
    poll: Poll,
    clock: Clock,
    connections: Connections<Device<Tell>, usize>,
    protocol: Arc<dyn ProtocolFactory>,
    key: Key,
    server: Address,
    devices: Vec<State>,
    /// When which device is to connect.
    due: BTreeSet<(Moment, usize)>,
    /// What the server has answered to whom.
    answers: Rc<RefCell<Vec<(usize, Response)>>>,
    random: u64,
}

struct State {
    backoff: Backoff,
    /// Whether it has a connection, or is making one.
    linked: bool,
    /// When its last attempt was due.
    attempt: Moment,
    /// Attempts and connections that came to an end.
    failures: u32,
    registered: u32,
    /// Heartbeats that were answered since it last registered.
    beats: u32,
}

impl Fleet {
    fn new(server: &At, protocol: Arc<dyn ProtocolFactory>) -> Self {
        let poll = Poll::new().unwrap();
        let connections = Connections::new(poll.registry(), Token(usize::MAX)).unwrap();
        let clock = Clock::start();
        let now = clock.now();
        let device = |_| State {
            backoff: Backoff::new(Backoff::DEFAULT_BASE, CAP),
            linked: false,
            attempt: now,
            failures: 0,
            registered: 0,
            beats: 0,
        };
        Self {
            poll,
            clock,
            connections,
            protocol,
            key: Key::mutual(KEY.as_bytes()).unwrap(),
            server: server.to_string().parse().unwrap(),
            devices: (0..DEVICES).map(device).collect(),
            due: (0..DEVICES).map(|index| (now, index)).collect(),
            answers: Rc::default(),
            random: 1,
        }
    }

    /// Who has lost its connection, or got none, connects again.
    fn later(&mut self, index: usize) {
        // Any generator will do; the constants are Knuth's.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let device = &mut self.devices[index];
        assert!(std::mem::take(&mut device.linked), "device {index} has ended twice");
        device.failures += 1;
        device.beats = 0;
        let at = self.clock.now().saturating_add(device.backoff.delay(self.random));
        self.due.insert((at, index));
    }

    fn connect(&mut self, index: usize, at: Moment) {
        let now = self.clock.now();
        let device = &mut self.devices[index];
        assert!(!std::mem::replace(&mut device.linked, true), "device {index} is connected");
        device.attempt = at;
        let (protocol, answers) = (self.protocol.clone(), self.answers.clone());
        let until = now.saturating_add(CONNECT);
        let connected = self.connections.connect(&self.server, until, index, |wake, _| {
            let machine: BoxedProtocol = protocol.client(wake, now).map_err(io::Error::other)?;
            let imei = format!("{index:015}").parse().unwrap();
            let client =
                DeviceClient::new(APP_ID.parse().unwrap(), imei, now).with_interval(INTERVAL);
            let tell: Tell = Box::new(move |response| {
                answers.borrow_mut().push((index, *response));
                ControlFlow::Continue(())
            });
            Ok::<_, io::Error>((machine, Device::new(client, tell)))
        });
        if connected.is_err() {
            self.later(index);
        }
    }

    /// Drives the devices until all of them are as `done` has it.
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&State) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1024);
        while !self.devices.iter().all(&done) {
            let left = give_up.saturating_duration_since(Instant::now());
            let missing = self.devices.iter().filter(|device| !done(device)).count();
            assert!(!left.is_zero(), "waited in vain until {missing} more have {what}");
            let now = self.clock.now();
            while let Some(&(at, index)) = self.due.first()
                && at <= now
            {
                self.due.pop_first();
                self.connect(index, at);
            }
            let mut ended = Vec::new();
            self.connections.run(&self.key, now, |notice, &mut index| {
                if let ConnectionEvent::Ended(_) = notice {
                    ended.push(index);
                }
            });
            for index in ended {
                self.later(index);
            }
            for (index, response) in self.answers.take() {
                assert_eq!(response.code(), 0, "to device {index}: {response:?}");
                let device = &mut self.devices[index];
                match response.id() {
                    0 => device.registered += 1,
                    1 => {
                        device.backoff.reset();
                        device.beats += 1;
                    }
                    _ => assert!(response.time().is_some()),
                }
            }
            let now = self.clock.now();
            let due = self.due.first().map(|(at, _)| at.saturating_duration_since(now));
            let timeout = due.into_iter().chain(self.connections.timeout(now)).chain([left]).min();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other.unwrap(),
            }
            for event in &events {
                self.connections.ready(event);
            }
        }
    }

    /// The greatest share of the devices whose last attempts were due within a quarter of the time
    /// that the longest delay takes.
    fn crowding(&self) -> f64 {
        let mut attempts: Vec<_> = self.devices.iter().map(|device| device.attempt).collect();
        attempts.sort_unstable();
        let within = |from: &Moment| {
            let to = from.saturating_add(CAP / 4);
            attempts.partition_point(|at| *at < to) - attempts.partition_point(|at| at < from)
        };
        attempts.iter().map(within).max().unwrap() as f64 / DEVICES as f64
    }
}

/// Fails unless the server knows every device, each connected and registered once.
#[track_caller]
fn all_registered_once(scratch: &Scratch) {
    let list: Vec<serde_json::Value> = serde_json::from_str(&status(scratch, "json\n")).unwrap();
    assert_eq!(list.len(), DEVICES);
    for (index, device) in list.iter().enumerate() {
        assert_eq!(device["imei"], format!("{index:015}"));
        assert_eq!((&device["connected"], &device["times"]), (&true.into(), &1.into()), "{device}");
        assert!(device["heartbeat"].is_string(), "{device}");
    }
}

/// The fleet outlives its server: devices that speak `protocol`, and servers as `args` have them.
fn outlives(scratch: &Scratch, args: &[&str], protocol: Arc<dyn ProtocolFactory>) {
    // Not 127.0.0.1: with nobody there, one of the many attempts could be given the very port that it
    // goes to, and be connected to itself.
    let start = |at: &str| {
        let more = ["--listen", at, "--device-interval", "3", "--max-connections", "1500"];
        serve(scratch, &[&more, args].concat())
    };
    let mut server = start("127.0.0.2:0");
    let at = server.at[0].clone();
    let mut fleet = Fleet::new(&at, protocol);
    for lives in 1..=2 {
        fleet.until("registered and two heartbeats behind them", |device| device.beats >= 2);
        assert!(fleet.devices.iter().all(|device| device.registered == lives));
        all_registered_once(scratch);
        if lives > 1 {
            let crowding = fleet.crowding();
            assert!(crowding < 0.6, "{crowding} of them came at once");
        }
        if lives == 1 {
            // Without a word.
            server.child.kill().unwrap();
            let log = server.log.whole();
            assert!(!log.contains("taken over") && !log.contains("device-silent"), "{log}");
            for device in &mut fleet.devices {
                device.failures = 0;
            }
            fleet.until("given up four times", |device| device.failures >= 4);
            server = start(&at.to_string());
        }
    }
    server.signal(Signal::TERM);
    server.end().exited(0);
}

#[test]
fn a_thousand_devices_on_one_thread_outlive_their_server() {
    if allow_files(FILES) {
        let scratch = Scratch::new();
        outlives(&scratch, &["--scheme", "none"], Arc::new(sessions(What::None, Role::Client)));
    }
}

#[test]
fn a_thousand_devices_of_mutual_inside_tls_outlive_their_server() {
    if allow_files(FILES) {
        let scratch = with_certs();
        let clients = clients(&scratch, What::Mutual);
        outlives(&scratch, &[&OURS[..], &["--scheme", "mutual"]].concat(), clients);
    }
}
