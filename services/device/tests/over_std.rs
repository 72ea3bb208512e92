//! Devices on the runner of the std adapter, with the device service on a mio server.

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
    Address, CallError, PoolOptions, Pools, ProtocolFactory, ServerHandle, ServerOptions,
    SessionFactory,
};
use countersign_mio::Server;
use countersign_std::{Runner, ShutdownHandle};

/// The longest wait for anything that must happen.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longer than a stopped connection has to be idle before it finishes.
const INTERVAL: Duration = Duration::from_millis(200);
const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
const KEY: &[u8] = b"a key that is long enough for anyone";

/// Sessions with process id `process`; the scheme `mutual` if there is a name.
fn factory(name: Option<&str>, process: u8) -> Arc<dyn ProtocolFactory> {
    let scheme = name.map_or(Scheme::None, |name| {
        let process_id = ProcessId::from_bytes(&[process; ProcessId::LEN]);
        Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id))
    });
    Arc::new(SessionFactory::new(Config::new(scheme), Pools::new(&PoolOptions::default())))
}

fn keys(name: Option<&str>) -> Option<Key> {
    name.map(|_| Key::mutual(KEY).unwrap())
}

struct Running {
    address: Address,
    registry: Registry,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(name: Option<&'static str>, max: usize, interval: Duration) -> Self {
        let listeners = "127.0.0.1:0".parse::<Address>().unwrap().listen(1).unwrap();
        let address = listeners[0].address().unwrap();
        let registry = Registry::new(max);
        let devices = Devices::new(registry.clone(), interval);
        let options = ServerOptions::default();
        let keys = Arc::new(keys(name));
        let mut server = Server::new(listeners, factory(name, 1), keys, options).unwrap();
        let handle = server.handle();
        let thread = Some(thread::spawn(move || server.run_with(&devices).unwrap()));
        Self { address, registry, handle, thread }
    }

    /// Waits until `done` with the list of devices.
    fn wait_until(&self, done: impl Fn(&[countersign_device::DeviceEntry]) -> bool) {
        let until = Instant::now() + TIMEOUT;
        while !done(&self.registry.list()) {
            assert!(Instant::now() < until, "{:?}", self.registry.list());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

type Ended = (Option<DeviceError>, Result<(), CallError>);

/// A device on its own thread. The receiver gets the id and the code of each response, and whether it has
/// the time.
fn device(
    address: &Address,
    name: Option<&'static str>,
    imei: &str,
    heartbeats: usize,
) -> (Receiver<(i8, i8, bool)>, ShutdownHandle, JoinHandle<Ended>) {
    let client = DeviceClient::new(
        APP_ID.parse().unwrap(),
        imei.parse().unwrap(),
        countersign::Instant::EPOCH,
    )
    .with_interval(INTERVAL);
    let (sender, responses) = channel();
    let mut left = heartbeats;
    let device = Device::new(client, move |response: &Response| {
        let _ = sender.send((response.id(), response.code(), response.time().is_some()));
        left -= usize::from(response.id() == Kind::Heartbeat.id());
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let runner = Runner::new().unwrap();
    let shutdown = runner.shutdown_handle();
    let address = address.clone();
    let thread = thread::spawn(move || {
        let stream = address.connect(TIMEOUT).unwrap();
        let (device, result) = runner.run(&stream, &*factory(name, 2), &keys(name), device);
        (device.error(), result)
    });
    (responses, shutdown, thread)
}

fn imei(number: usize) -> String {
    format!("{number:015}")
}

#[test]
fn device_registers_gets_the_time_and_sends_heartbeats() {
    for name in [None, Some("device")] {
        let server = Running::start(name.map(|_| "server"), 9, INTERVAL * 20);
        let (responses, _, thread) = device(&server.address, name, &imei(1), 3);
        let (error, result) = thread.join().unwrap();
        assert!(error.is_none() && result.is_ok(), "{error:?} {result:?}");
        let received: Vec<_> = responses.iter().collect();
        let heartbeat = (1, 0, false);
        let expected = [(0, 0, false), (2, 0, true), heartbeat, heartbeat, heartbeat];
        assert_eq!(received, expected);
        server.wait_until(|list| !list[0].connected);
        let entry = &server.registry.list()[0];
        assert_eq!((entry.imei.as_str(), entry.registrations), (&*imei(1), 1));
        assert_eq!(entry.name.map(|name| name.to_string()).as_deref(), name);
        assert!(entry.last_heartbeat.is_some());
    }
}

#[test]
fn second_connection_of_a_device_ends_the_first() {
    let server = Running::start(None, 9, INTERVAL * 20);
    let (old_responses, _, old) = device(&server.address, None, &imei(1), usize::MAX);
    old_responses.recv_timeout(TIMEOUT).unwrap();
    let (responses, shutdown, new) = device(&server.address, None, &imei(1), usize::MAX);
    let (error, result) = old.join().unwrap();
    assert!(error.is_none(), "{error:?} {result:?}");
    // The second connection stays open, and is the one in the list.
    for _ in 0..5 {
        responses.recv_timeout(TIMEOUT).unwrap();
    }
    let list = server.registry.list();
    assert_eq!(list.len(), 1);
    assert_eq!((list[0].connected, list[0].registrations), (true, 2));
    shutdown.stop();
    let (error, result) = new.join().unwrap();
    assert!(error.is_none() && result.is_ok(), "{error:?} {result:?}");
    server.wait_until(|list| !list[0].connected);
}

#[test]
fn full_registry_refuses_and_the_device_reports_it() {
    let server = Running::start(None, 1, INTERVAL * 20);
    let (responses, shutdown, first) = device(&server.address, None, &imei(1), usize::MAX);
    responses.recv_timeout(TIMEOUT).unwrap();
    let (responses, _, second) = device(&server.address, None, &imei(2), usize::MAX);
    let (error, result) = second.join().unwrap();
    assert_eq!(error, Some(DeviceError::Refused(Kind::Register)));
    assert!(matches!(result, Err(CallError::Protocol(Error::Aborted(CloseReason::Application)))));
    assert_eq!(responses.iter().collect::<Vec<_>>(), [(0, -1, false)]);
    shutdown.stop();
    first.join().unwrap().1.unwrap();
}

#[test]
fn silent_device_is_disconnected() {
    let server = Running::start(None, 9, INTERVAL);
    let Address::Tcp { host, port } = &server.address else { panic!("not TCP") };
    let mut peer_socket = TcpStream::connect((host.as_str(), *port)).unwrap();
    peer_socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let started = Instant::now();
    peer_socket.write_all(format!("\0\0\0\x35\0\0{APP_ID}{}", imei(7)).as_bytes()).unwrap();
    let mut response = Vec::new();
    peer_socket.read_to_end(&mut response).unwrap();
    assert_eq!(response, b"\0\0\0\x02\0\0");
    assert!(started.elapsed() >= INTERVAL * 3, "{:?}", started.elapsed());
    let silent: Imei = imei(7).parse().unwrap();
    server.wait_until(|list| list[0].imei == silent && !list[0].connected);
}

#[test]
fn malformed_requests_of_any_length_are_answered() {
    let server = Running::start(None, 9, TIMEOUT);
    let Address::Tcp { host, port } = &server.address else { panic!("not TCP") };
    let mut peer = TcpStream::connect((host.as_str(), *port)).unwrap();
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    let long = 100_000u32;
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for round in 0..500u32 {
        let len = if round == 250 { long } else { 0 };
        requests.extend(len.to_be_bytes());
        requests.resize(requests.len() + len as usize, 5);
        requests.extend(b"\0\0\0\x02\0\x02\0\0\0\x02\0\x01");
        let first: &[u8] = if round == 250 { b"\x05\xff" } else { b"\xff\xff" };
        for response in [first, b"\x02\xff", b"\x01\0"] {
            expected.extend(b"\0\0\0\x02");
            expected.extend(response);
        }
    }
    let mut writer = peer.try_clone().unwrap();
    let writing = thread::spawn(move || {
        writer.write_all(&requests).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut responses = Vec::new();
    peer.read_to_end(&mut responses).unwrap();
    writing.join().unwrap();
    assert!(responses == expected);
    assert!(server.registry.list().is_empty());
}

#[test]
fn device_leaves_a_server_that_responds_wrongly() {
    for (sent, expected) in [
        (&b""[..], DeviceError::NoResponse(Kind::Register)),
        (b"\0\0\0\x02\x01\0", DeviceError::Unexpected(Kind::Heartbeat)),
        (b"\0\0\0\x02\x00\xff", DeviceError::Refused(Kind::Register)),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(sent).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            received
        });
        let now = countersign::Instant::EPOCH;
        let client = DeviceClient::new(APP_ID.parse().unwrap(), imei(1).parse().unwrap(), now)
            .with_response_timeout(INTERVAL);
        let device = Device::new(client, |_: &Response| ControlFlow::Continue(()));
        let runner = Runner::new().unwrap();
        let stream = address.connect(TIMEOUT).unwrap();
        let (device, result) = runner.run(&stream, &*factory(None, 2), &None::<Key>, device);
        assert_eq!(device.error(), Some(expected));
        assert!(matches!(result, Err(CallError::Protocol(Error::Aborted(_)))), "{result:?}");
        assert!(server.join().unwrap().starts_with(b"\0\0\0\x35\0\0"));
    }
}
