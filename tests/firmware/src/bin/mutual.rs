//! `mutual KEY BOOT SECONDS [wait]`: authenticates by the scheme `mutual`, has messages echoed, stays idle
//! for SECONDS, and closes. With `wait` it waits until the line is cut instead of closing.

#![no_std]
#![no_main]

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Key, Mutual, Name, Scheme, Session};
use countersign_embedded_io::blocking::Client;
use countersign_firmware::{DeviceSecret, board, connection, exit, semihosting, stack};

#[entry]
fn main() -> ! {
    stack::fill();
    board::start();
    let arguments = semihosting::Arguments::get();
    let mut words = arguments.words();
    let (Some(key), Some(Ok(boot)), Some(Ok(seconds))) =
        (words.next(), words.next().map(str::parse), words.next().map(str::parse))
    else {
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
    let Some(message_buffer) =
        singleton!(: [u8; connection::MAX_MESSAGE] = [0; connection::MAX_MESSAGE])
    else {
        exit::wrong("memory")
    };

    let client = Client::connect(connection::uart_link(), session, &key);
    let mut client = client.unwrap_or_else(|error| exit::refused(error));
    semihosting::print("established");
    semihosting::end_line(client.peer().and_then(|peer| peer.name).unwrap_or("?"));
    connection::check_echo(&mut client, message_buffer, &[5, 0, 400, 513, 3000]);
    connection::stay_idle(&mut client, seconds);
    connection::check_echo(&mut client, message_buffer, &[7]);
    if words.next() == Some("wait") {
        connection::wait_for_failure(&mut client);
    }
    client.close().unwrap_or_else(|error| exit::ended(error));
    exit::done()
}
