//! The adapters under test. To add one, implement [`Adapter`] and name it in `adapters!`.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use countersign::Error;
use countersign_driver::Keys;
use countersign_host::{
    Address, CallError, ConnectionOptions, Connector, Listener, ProtocolFactory, ServerHandle,
    ServerOptions, ServiceFactory, SharedKeys,
};
use smol::block_on;

use crate::TEST_TIMEOUT;
use crate::mio_client::MioClient;

/// The server and the client of one adapter.
pub(crate) trait Adapter {
    /// Starts a server on a new thread, which runs until `ServerHandle::stop`.
    fn serve<F: ServiceFactory<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        factory: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        services: F,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>);

    /// Connects, and returns after the handshake.
    fn connect(address: &Address, client_setup: &ClientSetup) -> Result<Box<dyn Client>, Error>;
}

/// What a client needs to connect.
#[derive(Clone)]
pub(crate) struct ClientSetup {
    pub(crate) factory: Arc<dyn ProtocolFactory>,
    pub(crate) keys: Arc<dyn Keys + Send + Sync>,
}

impl ClientSetup {
    /// Returns a connector to `address` with a timeout for each call.
    pub(crate) fn connector(&self, address: &Address) -> Connector {
        let mut options = ConnectionOptions::default();
        options.timeout = Some(TEST_TIMEOUT);
        Connector::of(address.clone(), self.factory.clone(), self.keys.clone())
            .with_options(options)
    }
}

/// A client's connection, usable by several threads at once. Failures of the transport are
/// [`Error::Transport`].
pub(crate) trait Client: Send + Sync {
    /// Sends a message. Returns once the connection has accepted it.
    fn send(&self, message: &[u8]) -> Result<(), Error>;
    /// Returns the next message, or in a byte stream the bytes that have arrived. `None` once the
    /// server has finished.
    fn recv(&self) -> Result<Option<Vec<u8>>, Error>;
    /// Finishes: the client sends no more messages.
    fn finish(&self) -> Result<(), Error>;
}

pub(crate) type Connect = fn(&Address, &ClientSetup) -> Result<Box<dyn Client>, Error>;

macro_rules! adapters {
    ($d:tt $($module:ident: $adapter:ty,)*) => {
        /// The name of each adapter's client, and how it connects.
        pub(crate) const CLIENTS: &[(&str, Connect)] =
            &[$((stringify!($module), <$adapter as Adapter>::connect)),*];

        /// Makes a test of each function for each adapter.
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
    fn serve<F: ServiceFactory<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        factory: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        services: F,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>) {
        let mut server = countersign_mio::Server::new(listeners, factory, keys, options).unwrap();
        (server.handle(), thread::spawn(move || server.run_with(&services).unwrap()))
    }

    fn connect(address: &Address, client_setup: &ClientSetup) -> Result<Box<dyn Client>, Error> {
        MioClient::connect(address, client_setup).map(|client| Box::new(client) as _)
    }
}

pub(crate) struct Smol;

impl Adapter for Smol {
    fn serve<F: ServiceFactory<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        factory: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        services: F,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>) {
        let server = countersign_smol::Server::new(listeners, factory, keys, options).unwrap();
        (server.handle(), thread::spawn(move || block_on(server.run_with(&services))))
    }

    fn connect(address: &Address, client_setup: &ClientSetup) -> Result<Box<dyn Client>, Error> {
        let connection =
            block_on(countersign_smol::Connection::connect(&client_setup.connector(address)));
        connection.map(|connection| Box::new(connection) as _).map_err(protocol_error)
    }
}

impl Client for countersign_smol::Connection {
    fn send(&self, message: &[u8]) -> Result<(), Error> {
        block_on(self.send(message)).map_err(protocol_error)
    }

    fn recv(&self) -> Result<Option<Vec<u8>>, Error> {
        block_on(self.recv()).map_err(protocol_error)
    }

    fn finish(&self) -> Result<(), Error> {
        block_on(self.finish()).map_err(protocol_error)
    }
}

pub(crate) struct Std;

impl Adapter for Std {
    fn serve<F: ServiceFactory<Service: 'static> + 'static>(
        listeners: Vec<Listener>,
        factory: Arc<dyn ProtocolFactory>,
        keys: SharedKeys,
        services: F,
        options: ServerOptions,
    ) -> (ServerHandle, JoinHandle<()>) {
        let mut server = countersign_std::Server::new(listeners, factory, keys, options).unwrap();
        (server.handle(), thread::spawn(move || server.run_with(&services)))
    }

    fn connect(address: &Address, client_setup: &ClientSetup) -> Result<Box<dyn Client>, Error> {
        let connection = countersign_std::Connection::connect(&client_setup.connector(address));
        connection.map(|connection| Box::new(connection) as _).map_err(protocol_error)
    }
}

impl Client for countersign_std::Connection {
    fn send(&self, message: &[u8]) -> Result<(), Error> {
        self.send(message).map_err(protocol_error)
    }

    fn recv(&self) -> Result<Option<Vec<u8>>, Error> {
        self.recv().map_err(protocol_error)
    }

    fn finish(&self) -> Result<(), Error> {
        self.finish().map_err(protocol_error)
    }
}

/// Returns the protocol error in `error`, or [`Error::Transport`] if the transport failed.
pub(crate) fn protocol_error(error: CallError) -> Error {
    match error {
        CallError::Protocol(error) => error,
        CallError::Io(_) | CallError::Connect(_) => Error::Transport,
        error => panic!("{error}"),
    }
}
