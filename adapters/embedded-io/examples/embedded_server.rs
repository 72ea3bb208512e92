//! An async server for one connection at a time as in firmware, on a host's executor. Run
//! `cargo run -p countersign-embedded-io --example embedded_server` in a directory with a
//! `countersign.key`, and there, in another terminal,
//! `cargo run -- connect 127.0.0.1:9999 --message hello`.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use countersign_embedded_io::asynchronous::Link;
use countersign_embedded_io::services::Upper;
use countersign_embedded_io::{
    Buffers, Config, Key, MessageService, Mutual, Nonce, ProcessId, Scheme, ServiceConnection,
    Session, SliceBuffer,
};
use countersign_host::{Clock, key_file};
use embedded_hal_async::delay::DelayNs;
use embedded_io_adapters::tokio_1::FromTokio;
use getrandom::SysRng;
use tokio::net::{TcpListener, TcpStream, tcp};

/// The executor's timer.
struct Timer;

impl DelayNs for Timer {
    async fn delay_ns(&mut self, ns: u32) {
        tokio::time::sleep(Duration::from_nanos(ns.into())).await;
    }
}

fn shut(half: &mut FromTokio<tcp::OwnedWriteHalf>) -> std::io::Result<()> {
    let stream: &TcpStream = half.inner().as_ref();
    socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write)
}

/// Serves `count` connections of `listener`, one after the other.
pub(crate) async fn serve(
    listener: TcpListener,
    key: &Key,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    let clock = Clock::start();
    let process = ProcessId::generate(&mut SysRng)?;
    let config = Config::new(Scheme::Mutual(Mutual::new("embedded-server".parse()?, process)));
    let (mut memory, mut messages) = ([[0; 512]; 3], [[0; 2048]; 2]);
    for _ in 0..count {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let (reader, writer) = (FromTokio::new(reader), FromTokio::new(writer));
        let mut link: Link<_, _, _, _, 128> =
            Link::new(reader, writer, move || clock.now(), Timer).with_shut(shut);

        let [handshake, receive, send] = memory.each_mut().map(|region| &mut region[..]);
        let buffers = Buffers { handshake, receive, send };
        let mut session =
            Session::server(&config, Nonce::generate(&mut SysRng)?, buffers, clock.now())?;
        let [incoming, outgoing] = messages.each_mut().map(|buffer| SliceBuffer::new(buffer));
        let service = MessageService::new(Upper, incoming, outgoing);
        let result = link.run(&mut ServiceConnection::new(&mut session, service), key).await;
        println!("{peer}: {result:?}");
    }
    Ok(())
}

#[allow(dead_code, reason = "the tests call `serve`")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(&key_file::read(Path::new("countersign.key"))?)?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9999".into());
    let listener = TcpListener::bind(address).await?;
    println!("LISTENING {}", listener.local_addr()?.to_string().replace(':', " "));
    serve(listener, &key, usize::MAX).await
}
