//! Devices that a runner runs, against the service of devices on a real server.

#![cfg(test)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign::{CloseReason, Config, Error, Key, Mutual, ProcessId, Scheme};
use countersign_device::{Device, Devices, Registry};
use countersign_device::{DeviceClient, DeviceError, Imei, Kind, Response};
use countersign_host::{
    Address, ClientError, PoolOptions, Pools, ProtocolFactory, ServerHandle, ServerOptions,
    SessionFactory,
};
use countersign_mio::Server;
use countersign_std::{Runner, Stopper};

/// For anything that must happen; never how long it is expected to take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than a connection that is to stop has to be quiet.
const INTERVAL: Duration = Duration::from_millis(200);
const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
const KEY: &[u8] = b"a key that is long enough for anyone";

/// The sessions of a process of this number; the scheme `mutual` if `named`.
fn protocol(name: Option<&str>, process: u8) -> Arc<dyn ProtocolFactory> {
    let scheme = name.map_or(Scheme::None, |name| {
        let instance = ProcessId::from_bytes(&[process; ProcessId::LEN]);
        Scheme::Mutual(Mutual::new(name.parse().unwrap(), instance))
    });
    Arc::new(SessionFactory::new(Config::new(scheme), Pools::new(&PoolOptions::default())))
}

fn keys(name: Option<&str>) -> Option<Key> {
    name.map(|_| Key::mutual(KEY).unwrap())
}

struct Running {
    at: Address,
    registry: Registry,
    remote: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(name: Option<&'static str>, max: usize, interval: Duration) -> Self {
        let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        let at = listeners[0].address().unwrap();
        let registry = Registry::new(max);
        let devices = Devices::new(registry.clone(), interval);
        let options = ServerOptions::default();
        let protocol = protocol(name, 1);
        let mut server =
            Server::new(listeners, protocol, Arc::new(keys(name)), devices, options).unwrap();
        let remote = server.remote();
        let thread = Some(thread::spawn(move || server.run().unwrap()));
        Self { at, registry, remote, thread }
    }

    fn until(&self, done: impl Fn(&[countersign_device::DeviceEntry]) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(&self.registry.list()) {
            assert!(Instant::now() < until, "{:?}", self.registry.list());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.remote.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

type Ended = (Option<DeviceError>, Result<(), ClientError>);

/// A device on a thread of its own, and what it is told: id, code, and whether with the time.
fn device(
    at: &Address,
    name: Option<&'static str>,
    imei: &str,
    beats: usize,
) -> (Receiver<(i8, i8, bool)>, Stopper, JoinHandle<Ended>) {
    let client = DeviceClient::new(
        APP_ID.parse().unwrap(),
        imei.parse().unwrap(),
        countersign::Instant::EPOCH,
    )
    .with_interval(INTERVAL);
    let (told, tells) = channel();
    let mut left = beats;
    let device = Device::new(client, move |response: &Response| {
        let _ = told.send((response.id(), response.code(), response.time().is_some()));
        left -= usize::from(response.id() == Kind::Heartbeat.id());
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let runner = Runner::new().unwrap();
    let stopper = runner.stopper();
    let at = at.clone();
    let thread = thread::spawn(move || {
        let stream = at.connect(PATIENCE).unwrap();
        let (device, how) = runner.run(&stream, &*protocol(name, 2), &keys(name), device);
        (device.error(), how)
    });
    (tells, stopper, thread)
}

fn imei(number: usize) -> String {
    format!("{number:015}")
}

#[test]
fn a_device_registers_asks_the_time_and_beats_until_it_leaves() {
    for name in [None, Some("device")] {
        let server = Running::start(name.map(|_| "server"), 9, INTERVAL * 20);
        let (tells, _, thread) = device(&server.at, name, &imei(1), 3);
        let (error, how) = thread.join().unwrap();
        assert!(error.is_none() && how.is_ok(), "{error:?} {how:?}");
        let told: Vec<_> = tells.iter().collect();
        let beat = (1, 0, false);
        assert_eq!(told, [(0, 0, false), (2, 0, true), beat, beat, beat]);
        server.until(|list| !list[0].connected);
        let entry = &server.registry.list()[0];
        assert_eq!((entry.imei.as_str(), entry.times), (&*imei(1), 1));
        assert_eq!(entry.name.map(|name| name.to_string()).as_deref(), name);
        assert!(entry.heartbeat.is_some());
    }
}

#[test]
fn the_second_connection_of_a_device_ends_the_first() {
    let server = Running::start(None, 9, INTERVAL * 20);
    let (old_tells, _, old) = device(&server.at, None, &imei(1), usize::MAX);
    old_tells.recv_timeout(PATIENCE).unwrap();
    let (tells, stopper, new) = device(&server.at, None, &imei(1), usize::MAX);
    let (error, how) = old.join().unwrap();
    assert!(error.is_none(), "{error:?} {how:?}");
    // The newer one stays, and is the one that is listed.
    let beats = |n: usize| (0..n).for_each(|_| assert!(tells.recv_timeout(PATIENCE).is_ok()));
    beats(5);
    let list = server.registry.list();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].connected, list[0].times), (true, 2));
    stopper.stop();
    let (error, how) = new.join().unwrap();
    assert!(error.is_none() && how.is_ok(), "{error:?} {how:?}");
    server.until(|list| !list[0].connected);
}

#[test]
fn a_registry_that_is_full_refuses_and_the_device_says_so() {
    let server = Running::start(None, 1, INTERVAL * 20);
    let (tells, stopper, first) = device(&server.at, None, &imei(1), usize::MAX);
    tells.recv_timeout(PATIENCE).unwrap();
    let (tells, _, second) = device(&server.at, None, &imei(2), usize::MAX);
    let (error, how) = second.join().unwrap();
    assert_eq!(error, Some(DeviceError::Refused(Kind::Register)));
    assert!(matches!(how, Err(ClientError::Protocol(Error::Aborted(CloseReason::Application)))));
    assert_eq!(tells.iter().collect::<Vec<_>>(), [(0, -1, false)]);
    stopper.stop();
    first.join().unwrap().1.unwrap();
}

#[test]
fn a_device_that_falls_silent_is_given_up() {
    let server = Running::start(None, 9, INTERVAL);
    let Address::Tcp { host, port } = &server.at else { panic!("not TCP") };
    let mut silent = TcpStream::connect((host.as_str(), *port)).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    silent.write_all(format!("\0\0\0\x35\0\0{APP_ID}{}", imei(7)).as_bytes()).unwrap();
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"\0\0\0\x02\0\0");
    assert!(began.elapsed() >= INTERVAL * 3, "{:?}", began.elapsed());
    let gone: Imei = imei(7).parse().unwrap();
    server.until(|list| list[0].imei == gone && !list[0].connected);
}

#[test]
fn requests_that_are_none_are_answered_however_long_they_are_and_however_many() {
    let server = Running::start(None, 9, PATIENCE);
    let Address::Tcp { host, port } = &server.at else { panic!("not TCP") };
    let mut peer = TcpStream::connect((host.as_str(), *port)).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let long = 100_000u32;
    let mut asked = Vec::new();
    let mut expected = Vec::new();
    for round in 0..500u32 {
        let len = if round == 250 { long } else { 0 };
        asked.extend(len.to_be_bytes());
        asked.resize(asked.len() + len as usize, 5);
        asked.extend(b"\0\0\0\x02\0\x02\0\0\0\x02\0\x01");
        let first: &[u8] = if round == 250 { b"\x05\xff" } else { b"\xff\xff" };
        for answer in [first, b"\x02\xff", b"\x01\0"] {
            expected.extend(b"\0\0\0\x02");
            expected.extend(answer);
        }
    }
    let mut writer = peer.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&asked).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut answers = Vec::new();
    peer.read_to_end(&mut answers).unwrap();
    writing.join().unwrap();
    assert!(answers == expected);
    assert!(server.registry.list().is_empty());
}

#[test]
fn a_server_that_answers_nothing_or_nonsense_is_left() {
    for (said, expected) in [
        (&b""[..], DeviceError::NoAnswer(Kind::Register)),
        (b"\0\0\0\x02\x01\0", DeviceError::Unasked(Kind::Heartbeat)),
        (b"\0\0\0\x02\x00\xff", DeviceError::Refused(Kind::Register)),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let playing = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(said).unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard
        });
        let now = countersign::Instant::EPOCH;
        let client = DeviceClient::new(APP_ID.parse().unwrap(), imei(1).parse().unwrap(), now)
            .with_answer_timeout(INTERVAL);
        let device = Device::new(client, |_: &Response| ControlFlow::Continue(()));
        let runner = Runner::new().unwrap();
        let stream = at.connect(PATIENCE).unwrap();
        let (device, how) = runner.run(&stream, &*protocol(None, 2), &None::<Key>, device);
        assert_eq!(device.error(), Some(expected));
        assert!(matches!(how, Err(ClientError::Protocol(Error::Aborted(_)))), "{how:?}");
        assert!(playing.join().unwrap().starts_with(b"\0\0\0\x35\0\0"));
    }
}
