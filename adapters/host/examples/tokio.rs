//! A runtime that no adapter knows: a task of tokio's takes the turns. Start `cargo run -- serve`, and in
//! the same directory `cargo run -p countersign-drive --features keys --example tokio`.
use countersign::*;
use countersign_driver::{Chunk, Connection, Flow, Io, Progress, Service, Wait};
use countersign_host::{Clock, key_file};
use getrandom::SysRng;
use std::{error::Error, io, net::Shutdown, path::Path, time::Duration};
use tokio::{net::TcpStream, select, time::sleep};
struct Tcp(TcpStream);
impl Io for Tcp {
    type Error = io::Error;
    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.0.try_read(into).map(Some).or_else(not_now)
    }
    fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        self.0.try_write(from).map(Some).or_else(not_now)
    }
    fn shut_write(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&self.0).shutdown(Shutdown::Write)
    }
}
fn not_now(error: io::Error) -> io::Result<Option<usize>> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) }
}
struct Hello;
impl Service for Hello {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: Instant) {
        let _ = out.send(b"hello");
        out.finish();
    }
    fn on_message(&mut self, chunk: Chunk<'_>, _: &mut Outbox<'_>, _: Instant) -> Flow {
        println!("{}", chunk.bytes.escape_ascii());
        Flow::Consumed
    }
}
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(&key_file::read(Path::new("countersign.key"))?)?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9999".into());
    let (clock, mut io) = (Clock::start(), Tcp(TcpStream::connect(address).await?));
    let mutual = Mutual::new("tokio".parse()?, countersign_host::process_id()?);
    let (config, nonce) = (Config::new(Scheme::Mutual(mutual)), Nonce::generate(&mut SysRng)?);
    let buffers = Buffers { handshake: [0; 1024], receive: [0; 1024], send: [0; 1024] };
    let mut session = Session::client(&config, nonce, buffers, clock.now())?;
    let mut connection = Connection::new(&mut session, Hello);
    loop {
        let wait = match connection.turn(&mut io, &key, clock.now()) {
            Progress::Wait(wait) => wait,
            Progress::Yield => Wait { read: false, write: false, until: Some(clock.now()) },
            Progress::Closed(how) => return how.map_err(Into::into),
        };
        let left = |at: Instant| at.saturating_duration_since(clock.now());
        select! {
            ready = io.0.readable(), if wait.read => ready?,
            ready = io.0.writable(), if wait.write => ready?,
            () = sleep(wait.until.map_or(Duration::MAX, left)) => {}
        }
    }
}
