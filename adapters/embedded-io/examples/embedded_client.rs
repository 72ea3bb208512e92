//! A blocking client as in firmware: its memory is three arrays and a buffer for the reply, and its
//! transport reports whether it is ready. Run `cargo run -- serve` in one terminal and, in the same
//! directory, `cargo run -p countersign-embedded-io --example embedded_client -- 127.0.0.1:9999 hello`
//! in another.

#[path = "socket/socket.rs"]
mod socket;

use std::env;
use std::error::Error;
use std::net::TcpStream;
use std::path::Path;

use countersign_embedded_io::blocking::{Client, Link};
use countersign_embedded_io::{
    Buffers, Config, Interest, Key, Mutual, Nonce, ProcessId, Reassembler, Scheme, Session,
    SliceBuffer,
};
use countersign_host::{Clock, key_file};
use getrandom::SysRng;

use socket::Socket;

/// Sends `text` to the server at `address` and returns the reply.
pub(crate) fn request(address: &str, key: &Key, text: &str) -> Result<String, Box<dyn Error>> {
    let socket = Socket::new(TcpStream::connect(address)?)?;
    let (handle, clock) = (socket.try_clone()?, Clock::start());
    // On a microcontroller: read a timer, and `wfi`.
    let now = move || clock.now();
    let wait = move |interest: Interest| handle.wait(interest, clock.now());

    let process = ProcessId::generate(&mut SysRng)?;
    let config = Config::new(Scheme::Mutual(Mutual::new("embedded-client".parse()?, process)));
    let buffers = Buffers { handshake: [0; 512], receive: [0; 512], send: [0; 512] };
    let mut session = Session::client(&config, Nonce::generate(&mut SysRng)?, buffers, now())?;

    let link = Link::new(socket, now, wait).with_shut(Socket::shut);
    let mut client = Client::connect(link, &mut session, key)?;
    let mut memory = [0; 2048];
    let mut reply = Reassembler::new(SliceBuffer::new(&mut memory));
    let reply = String::from_utf8_lossy(client.request(text.as_bytes(), &mut reply)?).into_owned();
    client.close()?;
    Ok(reply)
}

#[allow(dead_code, reason = "the tests call `request`")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:9999".into());
    let text = args.next().unwrap_or("hello".into());
    let key = Key::mutual(&key_file::read(Path::new("countersign.key"))?)?;
    println!("{}", request(&address, &key, &text)?);
    Ok(())
}
