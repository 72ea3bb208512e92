//! A server with a task for each connection: `cargo run -p countersign-smol --example server`, and then the
//! example `client`.

use std::error::Error;
use std::sync::Arc;

use countersign::{Config, Key, Mutual, Scheme};
use countersign_driver::services::Upper;
use countersign_host::{
    Address, Open, PeerAddr, PoolOptions, Pools, ServerOptions, SessionFactory, process_id,
};
use countersign_smol::Server;

/// A server at `address` that sends every message back in capitals.
pub(crate) fn server(address: &Address) -> Result<Server<impl Open + use<>>, Box<dyn Error>> {
    let config = Config::new(Scheme::Mutual(Mutual::new("crier".parse()?, process_id()?)));
    let protocol = Arc::new(SessionFactory::new(config, Pools::new(&PoolOptions::default())));
    let keys = Arc::new(Key::mutual(b"who goes there, friend")?);
    let open = |_: &PeerAddr, _| Upper;
    Ok(Server::new(address.listen(1)?, protocol, keys, open, ServerOptions::default())?)
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    smol::block_on(server(&"127.0.0.1:9999".parse()?)?.run());
    Ok(())
}
