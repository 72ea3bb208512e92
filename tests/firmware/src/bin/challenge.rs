//! `challenge KEY`: authenticates to a server that proves nothing, has messages sent back, and ends.

#![no_std]
#![no_main]

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Digest, Key, Nonce, Scheme, Session};
use countersign_embedded_io::blocking::Client;
use countersign_firmware::{board, host, stack, talk};

#[entry]
fn main() -> ! {
    stack::paint();
    board::start();
    let arguments = host::Arguments::get();
    let Some(key) = arguments.words().next() else { talk::wrong("arguments") };
    let Ok(key) = Key::challenge(Digest::Sha256, key.as_bytes()) else { talk::wrong("key") };

    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let Some(buffers) = talk::buffers() else { talk::wrong("memory") };
    // A client of this scheme answers, and needs no randomness.
    let nonce = Nonce::from_bytes([0; Nonce::LEN]);
    let session = Session::client(&config, nonce, buffers, board::now());
    let Ok(session) = session else { talk::wrong("configuration") };
    let Some(session) = singleton!(: talk::Memory = session) else { talk::wrong("memory") };
    let Some(room) = singleton!(: [u8; talk::LONGEST] = [0; talk::LONGEST]) else {
        talk::wrong("memory")
    };

    let client = Client::connect(talk::line(), session, &key);
    let mut client = client.unwrap_or_else(|error| talk::refused(error));
    talk::exchange(&mut client, room, &[5, 400, 513, 3000]);
    if client.finish().is_err() {
        talk::wrong("end");
    }
    talk::done()
}
