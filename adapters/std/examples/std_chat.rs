//! A chat with a key-value store, a thread for each member: `cargo run -p countersign-std --example
//! std_chat`, and then, in other terminals, the example `std_reconnect`.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::{thread, time::Duration};

use countersign_std::*;

/// What members have stored.
type Store = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// One member of the chat.
struct Member {
    name: String,
    server: ServerHandle,
    store: Store,
}

impl Service for Member {
    fn on_open(&mut self, peer: &Peer<'_>, cx: &mut Context<'_>) -> Result<(), ServiceError> {
        self.name = peer.name.unwrap_or_default().into();
        Ok(cx.send(b"welcome")?)
    }

    fn on_message(&mut self, message: &[u8], cx: &mut Context<'_>) -> Result<(), ServiceError> {
        let text = String::from_utf8_lossy(message);
        let words: Vec<&str> = text.splitn(3, ' ').collect();
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let to = match words[..] {
            ["get", key] => return Ok(cx.send(store.get(key).map_or(&[][..], |value| value))?),
            ["set", key, value] => {
                store.insert(key.into(), value.into());
                return Ok(cx.send(b"stored")?);
            }
            [to, ..] if to.starts_with('@') => self.server.named(&to[1..]),
            _ => self.server.connections(),
        };
        let line = format!("{}: {text}", self.name);
        let sent = to.iter().filter(|member| member.send(line.as_bytes()).is_ok()).count();
        Ok(cx.send(format!("sent to {sent} of {}", to.len()).as_bytes())?)
    }
}

/// Serves until the handle of the server that `started` gets stops it.
pub(crate) fn serve(address: &str, started: impl FnOnce(&Server)) -> Result<(), Box<dyn Error>> {
    let mut options = ServerOptions::default();
    options.message_memory = MessageMemory::new(1 << 20, 64 << 20);
    let listeners = address.parse::<Address>()?.listen(1)?;
    let (sessions, key) = (SessionFactory::mutual("chat")?, Key::mutual(b"a secret for the chat")?);
    let mut server = Server::new(listeners, Arc::new(sessions), key, options)?;
    started(&server);
    let (handle, clock, store) = (server.handle(), server.handle(), Store::default());
    thread::spawn(move || {
        while !clock.is_stopping() {
            clock.broadcast(*b"tick");
            thread::sleep(Duration::from_secs(1));
        }
    });
    server.run(|_| Member { name: String::new(), server: handle.clone(), store: store.clone() });
    Ok(())
}

#[allow(dead_code, reason = "the tests call what it calls")]
fn main() -> Result<(), Box<dyn Error>> {
    serve("127.0.0.1:9999", |_| ())
}
