//! `device KEY BOOT`: registers, asks the time, and leaves after three heartbeats.

#![no_std]
#![no_main]

use core::ops::ControlFlow;
use core::time::Duration;

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign_device::DeviceClient;
use countersign::{Config, Key, Mutual, Name, Scheme, Session};
use countersign_device::Device;
use countersign_driver::{Connection, Failure};
use countersign_firmware::{Secret, board, host, stack, talk};

#[entry]
fn main() -> ! {
    stack::paint();
    board::start();
    let arguments = host::Arguments::get();
    let mut words = arguments.words();
    let (Some(key), Some(Ok(boot))) = (words.next(), words.next().map(str::parse)) else {
        talk::wrong("arguments")
    };
    let Ok(key) = Key::mutual(key.as_bytes()) else { talk::wrong("key") };
    let secret = Secret::new(b"this board's own, that nobody else has", boot);

    let Ok(name) = Name::new("board") else { talk::wrong("name") };
    let config = Config::new(Scheme::Mutual(Mutual::new(name, secret.process_id())));
    let Some(buffers) = talk::buffers() else { talk::wrong("memory") };
    let session = Session::client(&config, secret.nonce(1), buffers, board::now());
    let Ok(session) = session else { talk::wrong("configuration") };
    let Some(session) = singleton!(: talk::Memory = session) else { talk::wrong("memory") };

    let (Ok(app_id), Ok(imei)) =
        ("996da38d-a7be-4947-aa4c-f8208b5f4ade".parse(), "869858030720693".parse())
    else {
        talk::wrong("identity")
    };
    let client = DeviceClient::new(app_id, imei, board::now());
    let mut beats = 0;
    let device = Device::new(client.with_interval(Duration::from_secs(1)), |response| {
        host::print(["register", "heartbeat", "time"].get(response.id() as usize).unwrap_or(&"?"));
        host::number(response.code() as u8 as u32);
        host::line("");
        beats += u32::from(response.id() == 1);
        if beats == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut connection = Connection::new(session, device);
    match talk::line().run(&mut connection, &key) {
        Ok(()) => talk::done(),
        Err(failure @ Failure::Protocol(_)) if connection.established() => {
            talk::ended(failure.into())
        }
        Err(failure) => talk::refused(failure.into()),
    }
}
