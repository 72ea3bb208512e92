//! A client of the example `server`: one task sends what comes in on standard input, a line a message,
//! while the other prints what comes back.

use std::error::Error;
use std::io::stdin;

use countersign::{Config, Key, Mutual, Scheme};
use countersign_drive::{ClientOptions, PoolOptions, Pools, Sessions, instance};
use countersign_smol::Client;
use smol::future;
use smol::io::{AsyncBufReadExt, BufReader};
use smol::stream::StreamExt;

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new("client".parse()?, instance()?)));
    let protocol = Sessions::new(config, Pools::new(&PoolOptions::default()));
    let key = Key::mutual(b"who goes there, friend")?;
    let address = "127.0.0.1:9999".parse()?;
    smol::block_on(async {
        let options = ClientOptions::default();
        let client = Client::connect(&address, &protocol, &key, &options).await?;
        let sending = async {
            let mut lines = BufReader::new(smol::Unblock::new(stdin())).lines();
            while let Some(line) = lines.next().await {
                client.send(line?.as_bytes()).await?;
            }
            client.finish().await?;
            Ok::<_, Box<dyn Error>>(())
        };
        let receiving = async {
            while let Some(message) = client.recv().await? {
                println!("{}", String::from_utf8_lossy(&message));
            }
            Ok(())
        };
        future::try_zip(sending, receiving).await?;
        Ok(())
    })
}
