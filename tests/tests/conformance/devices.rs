//! The service of devices, on every adapter, in every way that has messages.

use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use countersign_device::{Device, DeviceEntry, Devices, Registry};
use countersign_device::{DeviceClient, DeviceError, Kind, Response};
use countersign_host::{Address, CallError};
use countersign_std::{Runner, ShutdownHandle};

use crate::adapters::Adapter;
use crate::peer::{Peer, frame};
use crate::running::{Running, Setup};
use crate::ways::Way;
use crate::{PATIENCE, at_once, until};

on_every_adapter! {
    a_device_registers_asks_the_time_and_beats_whatever_is_spoken,
    the_second_connection_of_a_device_ends_the_first,
    a_device_that_falls_silent_is_given_up,
    a_stop_answers_devices_first,
}

const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
/// Longer than a connection that is to stop has to be quiet.
const INTERVAL: Duration = Duration::from_millis(250);

type Ended = (Option<DeviceError>, Result<(), CallError>);

/// A device on a thread of its own.
struct Beating {
    tells: Receiver<Response>,
    stopper: ShutdownHandle,
    thread: JoinHandle<Ended>,
}

fn imei(number: usize) -> String {
    format!("{number:015}")
}

/// A device that leaves after so many heartbeats.
fn device(at: &Address, way: Way, number: usize, beats: usize) -> Beating {
    let (app_id, imei) = (APP_ID.parse().unwrap(), imei(number).parse().unwrap());
    let client =
        DeviceClient::new(app_id, imei, countersign::Instant::EPOCH).with_interval(INTERVAL);
    let (told, tells) = channel();
    let mut left = beats;
    let device = Device::new(client, move |response: &Response| {
        let _ = told.send(*response);
        left -= usize::from(response.id() == Kind::Heartbeat.id());
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let runner = Runner::new().unwrap();
    let stopper = runner.shutdown_handle();
    let at = at.clone();
    let thread = thread::spawn(move || {
        let with = way.client();
        let stream = at.connect(PATIENCE).unwrap();
        let (device, how) = runner.run(&stream, &*with.factory, &*with.keys, device);
        (device.error(), how)
    });
    Beating { tells, stopper, thread }
}

fn start<A: Adapter>(way: Way, interval: Duration) -> (Running, Registry) {
    let registry = Registry::new(99);
    (Setup::new(way).start::<A>(Devices::new(registry.clone(), interval)), registry)
}

fn until_listed(registry: &Registry, done: impl Fn(&[DeviceEntry]) -> bool) {
    until("the registry knows", || done(&registry.list()));
}

fn a_device_registers_asks_the_time_and_beats_whatever_is_spoken<A: Adapter>() {
    let all = Way::all().into_iter().filter(|way| way.has_messages());
    at_once(all.collect::<Vec<_>>(), |&way| {
        let (server, registry) = start::<A>(way, PATIENCE);
        let devices = [0, 1].map(|n| device(&server.at[n], way, n, 2));
        for Beating { tells, thread, .. } in devices {
            let (error, how) = thread.join().unwrap();
            assert!(error.is_none() && how.is_ok(), "{error:?} {how:?}");
            let told: Vec<_> = tells.iter().collect();
            let kinds: Vec<_> = told.iter().map(|it| (it.id(), it.code())).collect();
            assert_eq!(kinds, [(0, 0), (2, 0), (1, 0), (1, 0)]);
            assert!(told[1].time().is_some());
        }
        until_listed(&registry, |list| list.len() == 2 && list.iter().all(|it| !it.connected));
        server.until_empty();
    });
}

fn the_second_connection_of_a_device_ends_the_first<A: Adapter>() {
    at_once([Way::FRAMES, Way::PYTHON, Way::MUTUAL, Way::MUTUAL.in_tls()], |&way| {
        let (server, registry) = start::<A>(way, PATIENCE);
        let old = device(&server.at[0], way, 7, usize::MAX);
        old.tells.recv_timeout(PATIENCE).unwrap();
        let new = device(&server.at[1], way, 7, usize::MAX);
        let (error, how) = old.thread.join().unwrap();
        assert!(error.is_none(), "{error:?} {how:?}");
        // The newer one stays, and is the one that is listed.
        for _ in 0..4 {
            new.tells.recv_timeout(PATIENCE).unwrap();
        }
        let list = registry.list();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].connected, list[0].registrations), (true, 2));
        new.stopper.stop();
        let (error, how) = new.thread.join().unwrap();
        assert!(error.is_none() && how.is_ok(), "{error:?} {how:?}");
        until_listed(&registry, |list| !list[0].connected);
        server.until_empty();
    });
}

fn a_device_that_falls_silent_is_given_up<A: Adapter>() {
    let (server, registry) = start::<A>(Way::FRAMES, INTERVAL);
    for (n, at) in server.at.iter().enumerate() {
        let began = Instant::now();
        let silent = Peer::connect(at);
        silent.send(&frame(format!("\0\0{APP_ID}{}", imei(n)).as_bytes()));
        assert_eq!(silent.remaining(), b"\0\0\0\x02\0\0");
        assert!(began.elapsed() >= INTERVAL * 3, "{:?}", began.elapsed());
        until_listed(&registry, |list| list.iter().all(|it| !it.connected));
        assert_eq!(registry.list().len(), n + 1);
    }
}

fn a_stop_answers_devices_first<A: Adapter>() {
    let (server, _) = start::<A>(Way::MUTUAL, PATIENCE);
    let devices: Vec<_> =
        (0..10).map(|n| device(&server.at[n % 2], Way::MUTUAL, n, usize::MAX)).collect();
    for device in &devices {
        device.tells.recv_timeout(PATIENCE).unwrap();
    }
    server.handle.stop();
    for device in devices {
        // Whatever it had asked was answered.
        let (error, how) = device.thread.join().unwrap();
        assert!(error.is_none() && how.is_ok(), "{error:?} {how:?}");
    }
    server.join();
}
