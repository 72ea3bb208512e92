//! `mutual KEY BOOT SECONDS [wait]`: authenticates, has messages sent back, keeps an idle line for so
//! long, and ends; or waits until the line is cut.

#![no_std]
#![no_main]

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Key, Mutual, Name, Scheme, Session};
use countersign_embedded_io::blocking::Client;
use countersign_firmware::{Secret, board, host, stack, talk};

#[entry]
fn main() -> ! {
    stack::paint();
    board::start();
    let arguments = host::Arguments::get();
    let mut words = arguments.words();
    let (Some(key), Some(Ok(boot)), Some(Ok(seconds))) =
        (words.next(), words.next().map(str::parse), words.next().map(str::parse))
    else {
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
    let Some(room) = singleton!(: [u8; talk::LONGEST] = [0; talk::LONGEST]) else {
        talk::wrong("memory")
    };

    let client = Client::connect(talk::line(), session, &key);
    let mut client = client.unwrap_or_else(|error| talk::refused(error));
    host::print("established");
    host::line(client.peer().and_then(|peer| peer.name).unwrap_or("?"));
    talk::exchange(&mut client, room, &[5, 0, 400, 513, 3000]);
    talk::idle(&mut client, seconds);
    talk::exchange(&mut client, room, &[7]);
    if words.next() == Some("wait") {
        talk::wait(&mut client);
    }
    client.close().unwrap_or_else(|error| talk::ended(error));
    talk::done()
}
