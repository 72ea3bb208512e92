//! `challenge KEY`: authenticates by the scheme `challenge`, in which the server proves nothing; has
//! messages echoed; and finishes.

#![no_std]
#![no_main]

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Digest, Key, Nonce, Scheme, Session};
use countersign_embedded_io::blocking::Client;
use countersign_firmware::{board, connection, exit, semihosting, stack};

#[entry]
fn main() -> ! {
    stack::fill();
    board::start();
    let arguments = semihosting::Arguments::get();
    let Some(key) = arguments.words().next() else { exit::wrong("arguments") };
    let Ok(key) = Key::challenge(Digest::Sha256, key.as_bytes()) else { exit::wrong("key") };

    let config = Config::new(Scheme::Challenge { digest: Digest::Sha256 });
    let Some(buffers) = connection::static_buffers() else { exit::wrong("memory") };
    // A client of this scheme sends no nonce.
    let nonce = Nonce::from_bytes([0; Nonce::LEN]);
    let session = Session::client(&config, nonce, buffers, board::now());
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
    connection::check_echo(&mut client, message_buffer, &[5, 400, 513, 3000]);
    if client.finish().is_err() {
        exit::wrong("end");
    }
    exit::done()
}
