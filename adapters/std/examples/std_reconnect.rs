//! A member of the chat that connects again whenever its connection is lost: `cargo run -p countersign-std
//! --example std_reconnect bob`, with the example `std_chat` in another terminal.

use std::error::Error;

use countersign_std::*;

/// A client that stores its name in the chat after each connect.
pub(crate) fn member(
    address: &str,
    name: &str,
    process: ProcessId,
) -> Result<ReconnectingClient, Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new(name.parse()?, process)));
    let (sessions, set) =
        (SessionFactory::new(config, Pools::default()), format!("set last {name}"));
    let connector = Connector::new(address, sessions, Key::mutual(b"a secret for the chat")?)?;
    Ok(ReconnectingClient::new(connector, Backoff::default(), move |connection| {
        connection.send(set.as_bytes())
    }))
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("give a name")?;
    let mut member = member("127.0.0.1:9999", &name, process_id()?)?;
    loop {
        println!("{}", String::from_utf8_lossy(&member.recv()?));
    }
}
