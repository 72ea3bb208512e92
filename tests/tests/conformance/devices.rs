//! The device service on every adapter, with every protocol that has message boundaries.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign_device::{Device, DeviceEntry, Devices, Registry};
use countersign_device::{DeviceClient, DeviceError, Kind, Response};
use countersign_host::{Address, CallError};
use countersign_std::{Runner, ShutdownHandle};

use crate::adapters::Adapter;
use crate::protocol_spec::ProtocolSpec;
use crate::server::{RunningServer, ServerSetup};
use crate::socket_peer::{SocketPeer, frame};
use crate::{TEST_TIMEOUT, for_each_concurrently, wait_until};

on_every_adapter! {
    device_registers_gets_the_time_and_sends_heartbeats,
    second_connection_of_a_device_ends_the_first,
    silent_device_is_disconnected,
    stop_answers_the_requests_of_devices,
}

const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
/// Longer than the time for which a connection must be idle before a stop closes it.
const INTERVAL: Duration = Duration::from_millis(250);

/// The error of the device, and the result of its connection.
type DeviceEnd = (Option<DeviceError>, Result<(), CallError>);

/// A device that runs on a thread of its own.
struct RunningDevice {
    /// All responses that it receives.
    responses: Receiver<Response>,
    shutdown: ShutdownHandle,
    thread: JoinHandle<DeviceEnd>,
}

fn imei(number: usize) -> String {
    format!("{number:015}")
}

/// Starts a device that disconnects after this many heartbeats.
fn start_device(
    address: &Address,
    spec: ProtocolSpec,
    number: usize,
    heartbeats: usize,
) -> RunningDevice {
    let (app_id, imei) = (APP_ID.parse().unwrap(), imei(number).parse().unwrap());
    let client =
        DeviceClient::new(app_id, imei, countersign::Instant::EPOCH).with_interval(INTERVAL);
    let (response_sender, responses) = channel();
    let mut left = heartbeats;
    let device = Device::new(client, move |response: &Response| {
        let _ = response_sender.send(*response);
        left -= usize::from(response.id() == Kind::Heartbeat.id());
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let runner = Runner::new().unwrap();
    let shutdown = runner.shutdown_handle();
    let address = address.clone();
    let thread = thread::spawn(move || {
        let client_setup = spec.client();
        let stream = address.connect(TEST_TIMEOUT).unwrap();
        let (device, result) =
            runner.run(&stream, &*client_setup.factory, &*client_setup.keys, device);
        (device.error(), result)
    });
    RunningDevice { responses, shutdown, thread }
}

fn start<A: Adapter>(spec: ProtocolSpec, interval: Duration) -> (RunningServer, Registry) {
    let registry = Registry::new(99);
    (ServerSetup::new(spec).start::<A>(Devices::new(registry.clone(), interval)), registry)
}

fn wait_until_listed(registry: &Registry, done: impl Fn(&[DeviceEntry]) -> bool) {
    wait_until("the registry is as expected", || done(&registry.list()));
}

fn device_registers_gets_the_time_and_sends_heartbeats<A: Adapter>() {
    let all = ProtocolSpec::all().into_iter().filter(|spec| spec.has_messages());
    for_each_concurrently(all.collect::<Vec<_>>(), |&spec| {
        let (server, registry) = start::<A>(spec, TEST_TIMEOUT);
        let devices = [0, 1].map(|n| start_device(&server.addresses[n], spec, n, 2));
        for RunningDevice { responses, thread, .. } in devices {
            let (error, result) = thread.join().unwrap();
            assert!(error.is_none() && result.is_ok(), "{error:?} {result:?}");
            let received: Vec<_> = responses.iter().collect();
            let kinds: Vec<_> = received.iter().map(|it| (it.id(), it.code())).collect();
            assert_eq!(kinds, [(0, 0), (2, 0), (1, 0), (1, 0)]);
            assert!(received[1].time().is_some());
        }
        wait_until_listed(&registry, |list| list.len() == 2 && list.iter().all(|it| !it.connected));
        server.wait_until_empty();
    });
}

fn second_connection_of_a_device_ends_the_first<A: Adapter>() {
    for_each_concurrently(
        [
            ProtocolSpec::NONE,
            ProtocolSpec::MULTIPROCESSING,
            ProtocolSpec::MUTUAL,
            ProtocolSpec::MUTUAL.in_tls(),
        ],
        |&spec| {
            let (server, registry) = start::<A>(spec, TEST_TIMEOUT);
            let old = start_device(&server.addresses[0], spec, 7, usize::MAX);
            old.responses.recv_timeout(TEST_TIMEOUT).unwrap();
            let new = start_device(&server.addresses[1], spec, 7, usize::MAX);
            let (error, result) = old.thread.join().unwrap();
            assert!(error.is_none(), "{error:?} {result:?}");
            // The second connection remains, and the registry lists it.
            for _ in 0..4 {
                new.responses.recv_timeout(TEST_TIMEOUT).unwrap();
            }
            let list = registry.list();
            assert_eq!(list.len(), 1);
            assert_eq!((list[0].connected, list[0].registrations), (true, 2));
            new.shutdown.stop();
            let (error, result) = new.thread.join().unwrap();
            assert!(error.is_none() && result.is_ok(), "{error:?} {result:?}");
            wait_until_listed(&registry, |list| !list[0].connected);
            server.wait_until_empty();
        },
    );
}

fn silent_device_is_disconnected<A: Adapter>() {
    let (server, registry) = start::<A>(ProtocolSpec::NONE, INTERVAL);
    for (n, address) in server.addresses.iter().enumerate() {
        let start = Instant::now();
        let silent = SocketPeer::connect(address);
        silent.send(&frame(format!("\0\0{APP_ID}{}", imei(n)).as_bytes()));
        assert_eq!(silent.read_to_end(), b"\0\0\0\x02\0\0");
        assert!(start.elapsed() >= INTERVAL * 3, "{:?}", start.elapsed());
        wait_until_listed(&registry, |list| list.iter().all(|it| !it.connected));
        assert_eq!(registry.list().len(), n + 1);
    }
}

fn stop_answers_the_requests_of_devices<A: Adapter>() {
    let (server, _) = start::<A>(ProtocolSpec::MUTUAL, TEST_TIMEOUT);
    let devices: Vec<_> = (0..10)
        .map(|n| start_device(&server.addresses[n % 2], ProtocolSpec::MUTUAL, n, usize::MAX))
        .collect();
    for device in &devices {
        device.responses.recv_timeout(TEST_TIMEOUT).unwrap();
    }
    server.handle.stop();
    for device in devices {
        // The device has no unanswered request.
        let (error, result) = device.thread.join().unwrap();
        assert!(error.is_none() && result.is_ok(), "{error:?} {result:?}");
    }
    server.join();
}
