//! A blocking client, as firmware would have it: its memory is three arrays, its transport says whether
//! it is ready. Start `cargo run -- serve` in one terminal and, in the same directory, in a second one
//! `cargo run -p countersign-embedded-io --example client -- 127.0.0.1:9999 hello`.

mod socket;

use std::env;
use std::error::Error;
use std::net::TcpStream;
use std::path::Path;

use countersign::{Buffers, Config, Key, Mutual, Nonce, ProcessId, Scheme, Session};
use countersign_driver::Wait;
use countersign_embedded_io::Message;
use countersign_embedded_io::blocking::{Client, Link};
use countersign_host::{Clock, key_file};
use getrandom::SysRng;

use socket::Socket;

/// Says `text` to the server at `address`, and returns its answer.
pub(crate) fn talk(address: &str, key: &Key, text: &str) -> Result<String, Box<dyn Error>> {
    let socket = Socket::new(TcpStream::connect(address)?)?;
    let (handle, clock) = (socket.try_clone()?, Clock::start());
    // On a microcontroller: read a timer, and `wfi`.
    let now = move || clock.now();
    let pause = move |wait: Wait| handle.wait(wait, clock.now());

    let instance = ProcessId::generate(&mut SysRng)?;
    let config = Config::new(Scheme::Mutual(Mutual::new("embedded-client".parse()?, instance)));
    let buffers = Buffers { handshake: [0; 512], receive: [0; 512], send: [0; 512] };
    let mut session = Session::client(&config, Nonce::generate(&mut SysRng)?, buffers, now())?;

    let link = Link::new(socket, now, pause).with_shut(Socket::shut);
    let mut client = Client::connect(link, &mut session, key)?;
    client.send(text.as_bytes())?;
    client.finish()?;
    let mut buffer = [0; 2048];
    let mut answer = Message::new(&mut buffer);
    let answer = client.recv(&mut answer)?.ok_or("the server has nothing to say")?;
    let answer = String::from_utf8_lossy(answer).into_owned();
    client.close()?;
    Ok(answer)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let address = args.next().unwrap_or("127.0.0.1:9999".into());
    let text = args.next().unwrap_or("hello".into());
    let key = Key::mutual(&key_file::read(Path::new("countersign.key"))?)?;
    println!("{}", talk(&address, &key, &text)?);
    Ok(())
}
