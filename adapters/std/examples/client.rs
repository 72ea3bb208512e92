//! A client that sends on one thread and receives on another: `cargo run -p countersign-std --example
//! client`, with the example `server` in another terminal.

use std::error::Error;
use std::thread;

use countersign::{Config, Key, Mutual, ProcessId, Scheme};
use countersign_host::{Address, ClientOptions, PoolOptions, Pools, SessionFactory, process_id};
use countersign_std::Client;

/// Asks `questions` of the server at `address`, and hands each answer to `tell`.
pub(crate) fn ask(
    address: &Address,
    instance: ProcessId,
    questions: &[&str],
    mut tell: impl FnMut(&[u8]),
) -> Result<(), Box<dyn Error>> {
    let mutual = Mutual::new("asker".parse()?, instance).with_expected_server("thinker".parse()?);
    let config = Config::new(Scheme::Mutual(mutual));
    let protocol = SessionFactory::new(config, Pools::new(&PoolOptions::default()));
    let key = Key::mutual(b"who goes there, friend")?;
    let client = Client::connect(address, &protocol, &key, &ClientOptions::default())?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for question in questions {
                client.send(question.as_bytes())?;
            }
            client.finish()
        });
        while let Some(answer) = client.recv()? {
            tell(&answer);
        }
        Ok(sender.join().map_err(|_| "the sender panicked")??)
    })
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    ask(&"127.0.0.1:9999".parse()?, process_id()?, &["who", "goes", "there"], |answer| {
        println!("{}", String::from_utf8_lossy(answer));
    })
}
