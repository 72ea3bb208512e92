//! A client that sends on one thread and receives on another: `cargo run -p countersign-std --example
//! client`, with the example `server` in another terminal.

use std::error::Error;
use std::thread;

use countersign::{Config, Key, Mutual, Scheme};
use countersign_drive::{ClientOptions, PoolOptions, Pools, Sessions, instance};
use countersign_std::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(
        Mutual::new("asker".parse()?, instance()?).with_expected_server("thinker".parse()?),
    ));
    let protocol = Sessions::new(config, Pools::new(&PoolOptions::default()));
    let key = Key::mutual(b"who goes there, friend")?;
    let address = "127.0.0.1:9999".parse()?;
    let client = Client::connect(&address, &protocol, &key, &ClientOptions::default())?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for question in ["who", "goes", "there"] {
                client.send(question.as_bytes())?;
            }
            client.finish()
        });
        while let Some(answer) = client.recv()? {
            println!("{}", String::from_utf8_lossy(&answer));
        }
        Ok(sender.join().map_err(|_| "the sender panicked")??)
    })
}
