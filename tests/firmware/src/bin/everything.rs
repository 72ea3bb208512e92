//! `everything SCHEME KEY BOOT`: any scheme with any digest, as the command line says.

#![no_std]
#![no_main]

use cortex_m::singleton;
use cortex_m_rt::entry;
use countersign::{Config, Digest, Key, Multiprocessing, Mutual, Name, Scheme, Session};
use countersign_embedded_io::blocking::Client;
use countersign_firmware::{Secret, board, host, stack, talk};

#[entry]
fn main() -> ! {
    stack::paint();
    board::start();
    let arguments = host::Arguments::get();
    let mut words = arguments.words();
    let (Some(scheme), Some(secret), Some(Ok(boot))) =
        (words.next(), words.next(), words.next().map(str::parse))
    else {
        talk::wrong("arguments")
    };
    let random = Secret::new(b"this board's own, that nobody else has", boot);
    let Ok(name) = Name::new("board") else { talk::wrong("name") };
    let name_of_digest = words.next().unwrap_or("sha256");
    let named = |digest: &&Digest| digest.name() == name_of_digest;
    let digest = Digest::ALL.iter().find(named).copied().unwrap_or(Digest::Sha256);
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
            Scheme::Mutual(Mutual::new(name, random.process_id())),
            Some(Key::mutual(secret.as_bytes())),
        ),
    };
    let Ok(key) = key.transpose() else { talk::wrong("key") };
    let config = Config::new(scheme);
    let Some(buffers) = talk::buffers() else { talk::wrong("memory") };
    let session = Session::client(&config, random.nonce(1), buffers, board::now());
    let Ok(session) = session else { talk::wrong("configuration") };
    let Some(session) = singleton!(: talk::Memory = session) else { talk::wrong("memory") };
    let Some(room) = singleton!(: [u8; talk::LONGEST] = [0; talk::LONGEST]) else {
        talk::wrong("memory")
    };

    let client = Client::connect(talk::line(), session, &key);
    let mut client = client.unwrap_or_else(|error| talk::refused(error));
    talk::exchange(&mut client, room, &[5, 400, 1025, 3000]);
    if client.finish().is_err() {
        talk::wrong("end");
    }
    talk::done()
}
