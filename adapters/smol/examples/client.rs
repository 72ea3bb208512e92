//! A client that sends in one task and receives in another: `cargo run -p countersign-smol --example
//! client`, with the example `server` in another terminal.

use std::error::Error;

use countersign::{Config, Key, Mutual, ProcessId, Scheme};
use countersign_host::{Address, ClientOptions, PoolOptions, Pools, SessionFactory, process_id};
use countersign_smol::Client;
use smol::future;
use smol::stream::StreamExt;

/// Asks `questions` of the server at `address`, and hands each answer to `tell`.
pub(crate) async fn ask(
    address: &Address,
    instance: ProcessId,
    questions: &[&str],
    mut tell: impl FnMut(&[u8]),
) -> Result<(), Box<dyn Error>> {
    let mutual = Mutual::new("asker".parse()?, instance).with_expected_server("crier".parse()?);
    let config = Config::new(Scheme::Mutual(mutual));
    let protocol = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
    let key = Key::mutual(b"who goes there, friend")?;
    let client = Client::connect(address, &protocol, &key, &ClientOptions::default()).await?;
    let sending = async {
        for question in questions {
            client.send(question.as_bytes()).await?;
        }
        client.finish().await
    };
    let mut answers = client.messages();
    let receiving = answers.try_for_each(|answer| answer.map(|answer| tell(&answer)));
    future::try_zip(sending, receiving).await?;
    Ok(())
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    let address = "127.0.0.1:9999".parse()?;
    smol::block_on(ask(&address, process_id()?, &["who", "goes", "there"], |answer| {
        println!("{}", String::from_utf8_lossy(answer));
    }))
}
