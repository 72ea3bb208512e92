//! A thousand devices on one thread, and a server that is killed and restarted.

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
use crate::common::{PATIENCE, ServerAddr, TempDir, allow_files};
use crate::tls::tls_client::{InnerScheme, clients, sessions};
use crate::tls::{SERVER_TLS, with_certs};

const DEVICES: usize = 1000;
/// Open files of these tests and of those that run in parallel.
const FILES: u64 = 2 * DEVICES as u64 + 1000;
const INTERVAL: Duration = Duration::from_secs(3);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum delay between attempts.
const MAX_DELAY: Duration = Duration::from_secs(4);

type OnResponse = Box<dyn FnMut(&Response) -> ControlFlow<()>>;

/// Devices in one event loop, each with at most one connection.
struct Fleet {
    poll: Poll,
    clock: Clock,
    connections: Connections<Device<OnResponse>, usize>,
    protocol: Arc<dyn ProtocolFactory>,
    key: Key,
    server: Address,
    devices: Vec<State>,
    /// When each unconnected device is to connect.
    due: BTreeSet<(Moment, usize)>,
    /// The responses of the server, with the index of the device.
    responses: Rc<RefCell<Vec<(usize, Response)>>>,
    random: u64,
}

struct State {
    backoff: Backoff,
    /// Whether it is connected or connecting.
    connected: bool,
    /// When its last attempt was due.
    attempt: Moment,
    /// Failed attempts and lost connections.
    failures: u32,
    registered: u32,
    /// Answered heartbeats since the last registration.
    heartbeats: u32,
}

impl Fleet {
    fn new(server: &ServerAddr, protocol: Arc<dyn ProtocolFactory>) -> Self {
        let poll = Poll::new().unwrap();
        let connections = Connections::new(poll.registry(), Token(usize::MAX)).unwrap();
        let clock = Clock::start();
        let now = clock.now();
        let device = |_| State {
            backoff: Backoff::new(Backoff::DEFAULT_BASE, MAX_DELAY),
            connected: false,
            attempt: now,
            failures: 0,
            registered: 0,
            heartbeats: 0,
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
            responses: Rc::default(),
            random: 1,
        }
    }

    /// Schedules the next attempt of a device whose connection or attempt failed.
    fn schedule_reconnect(&mut self, index: usize) {
        // A linear congruential generator with Knuth's constants.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let device = &mut self.devices[index];
        assert!(std::mem::take(&mut device.connected), "device {index} ended twice");
        device.failures += 1;
        device.heartbeats = 0;
        let at = self.clock.now().saturating_add(device.backoff.delay(self.random));
        self.due.insert((at, index));
    }

    fn connect(&mut self, index: usize, at: Moment) {
        let now = self.clock.now();
        let device = &mut self.devices[index];
        assert!(!std::mem::replace(&mut device.connected, true), "device {index} is connected");
        device.attempt = at;
        let (protocol, responses) = (self.protocol.clone(), self.responses.clone());
        let until = now.saturating_add(CONNECT_TIMEOUT);
        let connected = self.connections.connect(&self.server, until, index, |wake, _, _| {
            let protocol: BoxedProtocol =
                protocol.client(&wake.into(), now).map_err(io::Error::other)?;
            let imei = format!("{index:015}").parse().unwrap();
            let client =
                DeviceClient::new(APP_ID.parse().unwrap(), imei, now).with_interval(INTERVAL);
            let on_response: OnResponse = Box::new(move |response| {
                responses.borrow_mut().push((index, *response));
                ControlFlow::Continue(())
            });
            Ok::<_, io::Error>((protocol, Device::new(client, on_response)))
        });
        if connected.is_err() {
            self.schedule_reconnect(index);
        }
    }

    /// Drives the devices until `done` returns true for all of them.
    #[track_caller]
    fn run_until(&mut self, what: &str, done: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1024);
        while !self.devices.iter().all(&done) {
            let left = deadline.saturating_duration_since(Instant::now());
            let missing = self.devices.iter().filter(|device| !done(device)).count();
            assert!(!left.is_zero(), "{missing} devices have not {what}");
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
                self.schedule_reconnect(index);
            }
            for (index, response) in self.responses.take() {
                assert_eq!(response.code(), 0, "to device {index}: {response:?}");
                let device = &mut self.devices[index];
                match response.id() {
                    0 => device.registered += 1,
                    1 => {
                        device.backoff.reset();
                        device.heartbeats += 1;
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
                self.connections.handle_event(event);
            }
        }
    }

    /// The largest share of the devices whose last attempts were due within a quarter of [`MAX_DELAY`].
    fn concentration(&self) -> f64 {
        let mut attempts: Vec<_> = self.devices.iter().map(|device| device.attempt).collect();
        attempts.sort_unstable();
        let within = |from: &Moment| {
            let to = from.saturating_add(MAX_DELAY / 4);
            attempts.partition_point(|at| *at < to) - attempts.partition_point(|at| at < from)
        };
        attempts.iter().map(within).max().unwrap() as f64 / DEVICES as f64
    }
}

/// Fails unless the server lists every device as connected and registered once.
#[track_caller]
fn expect_all_registered_once(dir: &TempDir) {
    let list: Vec<serde_json::Value> = serde_json::from_str(&status(dir, "json\n")).unwrap();
    assert_eq!(list.len(), DEVICES);
    for (index, device) in list.iter().enumerate() {
        assert_eq!(device["imei"], format!("{index:015}"));
        assert_eq!((&device["connected"], &device["times"]), (&true.into(), &1.into()), "{device}");
        assert!(device["heartbeat"].is_string(), "{device}");
    }
}

/// Checks that devices with `protocol` register with servers with `args`, and again after a restart.
fn check_restart(dir: &TempDir, args: &[&str], protocol: Arc<dyn ProtocolFactory>) {
    // Not 127.0.0.1: while the server is down, an attempt could be assigned the server's port as its own
    // and connect to itself.
    let start = |at: &str| {
        let more = ["--listen", at, "--device-interval", "3", "--max-connections", "1500"];
        serve(dir, &[&more, args].concat())
    };
    let mut server = start("127.0.0.2:0");
    let at = server.at[0].clone();
    let mut fleet = Fleet::new(&at, protocol);
    for run in 1..=2 {
        fleet.run_until("registered and got two heartbeats answered", |device| {
            device.heartbeats >= 2
        });
        assert!(fleet.devices.iter().all(|device| device.registered == run));
        expect_all_registered_once(dir);
        if run > 1 {
            let concentration = fleet.concentration();
            assert!(concentration < 0.6, "{concentration} of the devices reconnected at once");
        }
        if run == 1 {
            // Killed, so it closes no session in order.
            server.child.kill().unwrap();
            let log = server.log.wait_end();
            assert!(!log.contains("taken over") && !log.contains("device-silent"), "{log}");
            for device in &mut fleet.devices {
                device.failures = 0;
            }
            fleet.run_until("failed four times", |device| device.failures >= 4);
            server = start(&at.to_string());
        }
    }
    server.signal(Signal::TERM);
    server.wait().expect_code(0);
}

#[test]
fn thousand_devices_reconnect_to_restarted_server() {
    if allow_files(FILES) {
        let dir = TempDir::new();
        check_restart(
            &dir,
            &["--scheme", "none"],
            Arc::new(sessions(InnerScheme::None, Role::Client)),
        );
    }
}

#[test]
fn thousand_tls_devices_reconnect_to_restarted_server() {
    if allow_files(FILES) {
        let dir = with_certs();
        let clients = clients(&dir, InnerScheme::Mutual);
        check_restart(&dir, &[&SERVER_TLS[..], &["--scheme", "mutual"]].concat(), clients);
    }
}
