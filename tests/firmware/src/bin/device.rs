//! `device KEY BOOT`: registers as a device, requests the time, and closes after three heartbeats.

#![no_std]
#![no_main]

use core::ops::ControlFlow;
use core::time::Duration;

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Key, Mutual, Name, Scheme, Session};
use countersign_device::{Device, DeviceClient};
use countersign_driver::{Failure, ServiceConnection};
use countersign_firmware::{DeviceSecret, board, connection, exit, semihosting, stack};

#[entry]
fn main() -> ! {
    stack::fill();
    board::start();
    let arguments = semihosting::Arguments::get();
    let mut words = arguments.words();
    let (Some(key), Some(Ok(boot))) = (words.next(), words.next().map(str::parse)) else {
        exit::wrong("arguments")
    };
    let Ok(key) = Key::mutual(key.as_bytes()) else { exit::wrong("key") };
    let secret = DeviceSecret::new(b"a secret that only this board has", boot);

    let Ok(name) = Name::new("board") else { exit::wrong("name") };
    let config = Config::new(Scheme::Mutual(Mutual::new(name, secret.process_id())));
    let Some(buffers) = connection::static_buffers() else { exit::wrong("memory") };
    let session = Session::client(&config, secret.nonce(1), buffers, board::now());
    let Ok(session) = session else { exit::wrong("configuration") };
    let Some(session) = singleton!(: connection::StaticSession = session) else {
        exit::wrong("memory")
    };

    let (Ok(app_id), Ok(imei)) =
        ("996da38d-a7be-4947-aa4c-f8208b5f4ade".parse(), "869858030720693".parse())
    else {
        exit::wrong("identity")
    };
    let client = DeviceClient::new(app_id, imei, board::now());
    let mut heartbeats = 0;
    let device = Device::new(client.with_interval(Duration::from_secs(1)), |response| {
        semihosting::print(
            ["register", "heartbeat", "time"].get(response.id() as usize).unwrap_or(&"?"),
        );
        semihosting::print_number(response.code() as u8 as u32);
        semihosting::end_line("");
        heartbeats += u32::from(response.id() == 1);
        if heartbeats == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut connection = ServiceConnection::new(session, device);
    match connection::uart_link().run(&mut connection, &key) {
        Ok(()) => exit::done(),
        Err(failure @ Failure::Protocol(_)) if connection.driver().is_established() => {
            exit::ended(failure.into())
        }
        Err(failure) => exit::refused(failure.into()),
    }
}
