//! The adapters. To have one more tested: implement [`Adapter`], and name it below.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use countersign::Error;
use countersign_driver::Keys;
use countersign_host::{
    Address, ClientError, ClientOptions, Listener, Open, ProtocolFactory, ServerHandle,
    ServerOptions, SharedKeys,
};
use smol::block_on;

use crate::PATIENCE;
use crate::looped::Looped;

/// A runtime's server and its client.
pub(crate) trait Adapter {
    /// Serves on a thread of its own until `ServerHandle::stop`.
    fn serve<O: Open<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        protocol: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        open: O,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>);

    /// Connects, and returns when the handshake is over.
    fn connect(to: &Address, with: &With) -> Result<Box<dyn Client>, Error>;
}

/// What a client needs to connect.
#[derive(Clone)]
pub(crate) struct With {
    pub(crate) protocol: Arc<dyn ProtocolFactory>,
    pub(crate) keys: Arc<dyn Keys + Send + Sync>,
}

/// A connection of a client's, used by several threads at once. How it fails is told as the protocol
/// has it; a transport that fails is [`Error::Transport`].
pub(crate) trait Client: Send + Sync {
    /// Returns when the message has been taken.
    fn send(&self, message: &[u8]) -> Result<(), Error>;
    /// The next message, of a byte stream whatever has arrived; `None` when no more come.
    fn recv(&self) -> Result<Option<Vec<u8>>, Error>;
    /// No more from us.
    fn finish(&self) -> Result<(), Error>;
}

pub(crate) type Connect = fn(&Address, &With) -> Result<Box<dyn Client>, Error>;

macro_rules! adapters {
    ($d:tt $($module:ident: $adapter:ty,)*) => {
        /// How each of them connects.
        pub(crate) const CLIENTS: &[(&str, Connect)] =
            &[$((stringify!($module), <$adapter as Adapter>::connect)),*];

        /// Makes a test of each function, for each adapter.
        macro_rules! on_every_adapter {
            ($d($d test:ident),* $d(,)?) => {
                $(
                    mod $module {
                        use crate::adapters::*;
                        $d(
                            #[test]
                            fn $d test() {
                                super::$d test::<$adapter>();
                            }
                        )*
                    }
                )*
            };
        }
    };
}

adapters! { $
    on_mio: Mio,
    on_smol: Smol,
    on_std: Std,
}

pub(crate) struct Mio;

impl Adapter for Mio {
    fn serve<O: Open<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        protocol: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        open: O,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>) {
        let server = countersign_mio::Server::new(listeners, protocol, keys, open, options);
        let mut server = server.unwrap();
        (server.remote(), thread::spawn(move || server.run().unwrap()))
    }

    fn connect(to: &Address, with: &With) -> Result<Box<dyn Client>, Error> {
        Looped::connect(to, with).map(|client| Box::new(client) as _)
    }
}

pub(crate) struct Smol;

impl Adapter for Smol {
    fn serve<O: Open<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        protocol: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        open: O,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>) {
        let server = countersign_smol::Server::new(listeners, protocol, keys, open, options);
        let server = server.unwrap();
        (server.remote(), thread::spawn(move || block_on(server.run())))
    }

    fn connect(to: &Address, with: &With) -> Result<Box<dyn Client>, Error> {
        let options = client_options();
        let client = countersign_smol::Client::connect(to, &*with.protocol, &*with.keys, &options);
        block_on(client).map(|client| Box::new(client) as _).map_err(why)
    }
}

impl Client for countersign_smol::Client {
    fn send(&self, message: &[u8]) -> Result<(), Error> {
        block_on(self.send(message)).map_err(why)
    }

    fn recv(&self) -> Result<Option<Vec<u8>>, Error> {
        block_on(self.recv()).map_err(why)
    }

    fn finish(&self) -> Result<(), Error> {
        block_on(self.finish()).map_err(why)
    }
}

pub(crate) struct Std;

impl Adapter for Std {
    fn serve<O: Open<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        protocol: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        open: O,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>) {
        let server = countersign_std::Server::new(listeners, protocol, keys, open, options);
        let mut server = server.unwrap();
        (server.remote(), thread::spawn(move || server.run()))
    }

    fn connect(to: &Address, with: &With) -> Result<Box<dyn Client>, Error> {
        let client =
            countersign_std::Client::connect(to, &*with.protocol, &*with.keys, &client_options());
        client.map(|client| Box::new(client) as _).map_err(why)
    }
}

impl Client for countersign_std::Client {
    fn send(&self, message: &[u8]) -> Result<(), Error> {
        self.send(message).map_err(why)
    }

    fn recv(&self) -> Result<Option<Vec<u8>>, Error> {
        self.recv().map_err(why)
    }

    fn finish(&self) -> Result<(), Error> {
        self.finish().map_err(why)
    }
}

/// Those of a client that does not wait for ever.
pub(crate) fn client_options() -> ClientOptions {
    let mut options = ClientOptions::default();
    options.timeout = Some(PATIENCE);
    options
}

/// What of a client's error the protocol has a word for.
pub(crate) fn why(error: ClientError) -> Error {
    match error {
        ClientError::Protocol(error) => error,
        ClientError::Io(_) | ClientError::Connect(_) => Error::Transport,
        error => panic!("{error}"),
    }
}
