//! A runtime without an adapter: a task of tokio drives a session by hand. Run `cargo run -- serve` and,
//! in the same directory, `cargo run -p countersign-host --features keyring --example tokio_client`.
use countersign::*;
use countersign_driver::{Driver, Interest, Io, Progress};
use countersign_host::{Clock, key_file};
use getrandom::SysRng;
use std::{error::Error, io, net::Shutdown, path::Path, time::Duration};
use tokio::{net::TcpStream, select, time::sleep};
struct Tcp(TcpStream);
impl Io for Tcp {
    type Error = io::Error;
    fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.0.try_read(into).map(Some).or_else(would_block)
    }
    fn write(&mut self, from: &[u8]) -> io::Result<Option<usize>> {
        self.0.try_write(from).map(Some).or_else(would_block)
    }
    fn shut_write(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&self.0).shutdown(Shutdown::Write)
    }
}
fn would_block(error: io::Error) -> io::Result<Option<usize>> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) }
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
    let mut driver = Driver::new(&mut session);
    loop {
        let interest = match driver.poll(&mut io, &key, clock.now()) {
            Progress::Event(event) => {
                if event == Event::Established {
                    driver.outbox().send(b"hello")?;
                    driver.outbox().finish();
                } else if let Some(chunk) = driver.chunk() {
                    println!("{}", chunk.bytes.escape_ascii());
                    driver.consume(clock.now());
                }
                continue;
            }
            Progress::Yield => Interest::default().until_at_most(Some(clock.now())),
            Progress::Wait(interest) => interest,
            Progress::Closed(result) => return result.map_err(Into::into),
        };
        let left = |at: Instant| at.saturating_duration_since(clock.now());
        select! {
            ready = io.0.readable(), if interest.read => ready?,
            ready = io.0.writable(), if interest.write => ready?,
            () = sleep(interest.until.map_or(Duration::MAX, left)) => {}
        }
    }
}
