//! An async server of one connection at a time, as firmware would have it, on a host's executor:
//! `cargo run -p countersign-embedded-io --example server` where there is a `countersign.key`, and in a
//! second terminal, in the same directory, `cargo run -- connect 127.0.0.1:9999 --message hello`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use countersign::{Buffers, Config, Key, Mutual, Nonce, ProcessId, Scheme, Session};
use countersign_driver::Connection;
use countersign_driver::services::Upper;
use countersign_embedded_io::asynchronous::Link;
use countersign_host::{Clock, key_file};
use embedded_hal_async::delay::DelayNs;
use embedded_io_adapters::tokio_1::FromTokio;
use getrandom::SysRng;
use tokio::net::{TcpListener, TcpStream, tcp::OwnedWriteHalf};

/// The executor's timer.
struct Timer;

impl DelayNs for Timer {
    async fn delay_ns(&mut self, ns: u32) {
        tokio::time::sleep(Duration::from_nanos(ns.into())).await;
    }
}

fn shut(half: &mut FromTokio<OwnedWriteHalf>) -> std::io::Result<()> {
    let stream: &TcpStream = half.inner().as_ref();
    socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// Serves who comes to `listener`, one after the other, `count` of them.
pub(crate) async fn serve(
    listener: TcpListener,
    key: &Key,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    let clock = Clock::start();
    let instance = ProcessId::generate(&mut SysRng)?;
    let config = Config::new(Scheme::Mutual(Mutual::new("embedded-server".parse()?, instance)));
    let mut memory = [[0; 512]; 3];
    for _ in 0..count {
        let (stream, from) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (reader, writer) = (FromTokio::new(reader), FromTokio::new(writer));
        let mut link: Link<_, _, _, _, 128> =
            Link::new(reader, writer, move || clock.now(), Timer).with_shut(shut);

        let [handshake, receive, send] = memory.each_mut().map(|region| &mut region[..]);
        let buffers = Buffers { handshake, receive, send };
        let nonce = Nonce::generate(&mut SysRng)?;
        let mut session = Session::server(&config, nonce, buffers, clock.now())?;
        let mut connection = Connection::new(&mut session, Upper);
        match link.run(&mut connection, key).await {
            Ok(()) => println!("{from}: done"),
            Err(error) => println!("{from}: {error}"),
        }
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests call what it calls")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(&key_file::read(Path::new("countersign.key"))?)?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9999".into());
    let listener = TcpListener::bind(address).await?;
    let at = listener.local_addr()?;
    println!("LISTENING {} {}", at.ip(), at.port());
    serve(listener, &key, usize::MAX).await
}
