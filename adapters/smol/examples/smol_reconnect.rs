//! A client that stays connected: `cargo run -p countersign-smol --example smol_reconnect`, with the example
//! `smol_chat` in another terminal, which may be started later and again.

use std::error::Error;

use countersign_smol::{Backoff, Connector, Key, ReconnectingClient, SessionFactory};

/// Announces itself after each connect, and reports messages until `report` returns false.
pub(crate) async fn listen(
    connector: Connector,
    mut report: impl FnMut(&str) -> bool,
) -> Result<(), Box<dyn Error>> {
    let mut client = ReconnectingClient::new(connector, Backoff::default(), |connection| {
        Box::pin(connection.send(b"hello")) // after each connect
    });
    while report(&String::from_utf8_lossy(&client.recv().await?)) {}
    Ok(())
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    let key = Key::mutual(b"a secret for the chat")?;
    let connector = Connector::new("127.0.0.1:9999", SessionFactory::mutual("listener")?, key)?;
    smol::block_on(listen(connector, |text| {
        println!("{text}");
        true
    }))
}
