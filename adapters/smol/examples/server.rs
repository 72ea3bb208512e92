//! A server: `cargo run -p countersign-smol --example server`, and then, in a second terminal, `cargo run -p
//! countersign-smol --example client`. It stops in order when its standard input ends (Ctrl-D).

use std::error::Error;
use std::io::{Read, stdin};
use std::sync::Arc;

use countersign::{Config, Key, Mutual, Scheme};
use countersign_drive::services::Upper;
use countersign_drive::{Address, Origin, PoolOptions, Pools, ServerOptions, Sessions, instance};
use countersign_smol::Server;
use smol::future;

fn main() -> Result<(), Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new("upper".parse()?, instance()?)));
    let protocol = Arc::new(Sessions::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(b"who goes there, friend")?);
    let listeners = "127.0.0.1:9999".parse::<Address>()?.listen(1)?;
    let options = ServerOptions::default();
    let server = Server::new(listeners, protocol, keys, |_: &Origin, _| Upper, options)?;
    let remote = server.remote();
    let stopping = async {
        smol::unblock(|| stdin().read_to_end(&mut Vec::new())).await?;
        remote.stop();
        Ok(())
    };
    smol::block_on(future::zip(server.run(), stopping)).1
}
