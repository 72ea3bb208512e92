//! A server with a task for each connection: `cargo run -p countersign-smol --example server`, and then the
//! example `client`.

use std::error::Error;
use std::sync::Arc;

use countersign::{Config, Key, Mutual, Scheme};
use countersign_drive::services::Upper;
use countersign_drive::{
    Address, Open, Origin, PoolOptions, Pools, ServerOptions, Sessions, instance,
};
use countersign_smol::Server;

/// A server at `address` that sends every message back in capitals.
pub(crate) fn server(address: &Address) -> Result<Server<impl Open + use<>>, Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new("crier".parse()?, instance()?)));
    let protocol = Arc::new(Sessions::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(b"who goes there, friend")?);
    let open = |_: &Origin, _| Upper;
    Ok(Server::new(address.listen(1)?, protocol, keys, open, ServerOptions::default())?)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(server(&"127.0.0.1:9999".parse()?)?.run());
    Ok(())
}
