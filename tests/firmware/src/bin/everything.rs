//! `everything SCHEME KEY BOOT [DIGEST]`: authenticates by any scheme with any digest (sha256 unless
//! given), has messages echoed, and finishes.

#![no_std]
#![no_main]

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Digest, Key, Multiprocessing, Mutual, Name, Scheme, Session};
use countersign_embedded_io::blocking::Client;
use countersign_firmware::{DeviceSecret, board, connection, exit, semihosting, stack};

#[entry]
fn main() -> ! {
    stack::fill();
    board::start();
    let arguments = semihosting::Arguments::get();
    let mut words = arguments.words();
    let (Some(scheme), Some(secret), Some(Ok(boot))) =
        (words.next(), words.next(), words.next().map(str::parse))
    else {
        exit::wrong("arguments")
    };
    let device_secret = DeviceSecret::new(b"a secret that only this board has", boot);
    let Ok(name) = Name::new("board") else { exit::wrong("name") };
    let digest_name = words.next().unwrap_or("sha256");
    let has_name = |digest: &&Digest| digest.name() == digest_name;
    let digest = Digest::ALL.iter().find(has_name).copied().unwrap_or(Digest::Sha256);
    let (scheme, key) = match scheme {
        "none" => (Scheme::None, None),
        "challenge" => {
            (Scheme::Challenge { digest }, Some(Key::challenge(digest, secret.as_bytes())))
        }
        "multiprocessing" => (
            Scheme::Multiprocessing(Multiprocessing::new(digest)),
            Some(Key::challenge(digest, secret.as_bytes())),
        ),
        _ => (
            Scheme::Mutual(Mutual::new(name, device_secret.process_id())),
            Some(Key::mutual(secret.as_bytes())),
        ),
    };
    let Ok(key) = key.transpose() else { exit::wrong("key") };
    let config = Config::new(scheme);
    let Some(buffers) = connection::static_buffers() else { exit::wrong("memory") };
    let session = Session::client(&config, device_secret.nonce(1), buffers, board::now());
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
    connection::check_echo(&mut client, message_buffer, &[5, 400, 1025, 3000]);
    if client.finish().is_err() {
        exit::wrong("end");
    }
    exit::done()
}
