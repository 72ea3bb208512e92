//! A blocking client: a `CallConnection` and `poll(2)`.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use countersign_driver::Interest;
use countersign_host::{
    Address, CallConnection, CallError, Clock, Connector, Sending, SessionFactory, Step, Stream,
};
use countersign_mio::{Config, Error, Key, Mutual, Pools, ProcessId, Scheme};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{SECRET, TIMEOUT};

pub(crate) struct Client {
    connection: CallConnection,
    connector: Connector,
    stream: Stream,
    clock: Clock,
}

/// A client called `name`, or one of the scheme `none`; its process id is 2.
pub(crate) fn connector(address: &Address, name: Option<&str>) -> Connector {
    let scheme = name.map_or(Scheme::None, |name| {
        let process_id = ProcessId::from_bytes(&[2; ProcessId::LEN]);
        Scheme::Mutual(Mutual::new(name.parse().unwrap(), process_id))
    });
    let factory = Arc::new(SessionFactory::new(Config::new(scheme), Pools::default()));
    Connector::of(address.clone(), factory, Arc::new(Key::mutual(SECRET).unwrap()))
}

impl Client {
    pub(crate) fn connect(connector: &Connector) -> Self {
        let stream = connector.address().connect(TIMEOUT).unwrap();
        let clock = Clock::start();
        let connection = connector.begin(Waker::noop(), clock.now()).unwrap();
        let mut client = Self { connection, connector: connector.clone(), stream, clock };
        client.call(|connection, _| connection.established()).unwrap();
        client
    }

    /// Polls until `operation` has a result.
    fn call<T>(
        &mut self,
        mut operation: impl FnMut(
            &mut CallConnection,
            countersign_mio::Instant,
        ) -> Option<Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let until = Instant::now() + TIMEOUT;
        loop {
            let keys = &**self.connector.keys();
            let step = self.connection.poll(&mut &self.stream, keys, self.clock.now());
            if let Some(result) = operation(&mut self.connection, self.clock.now()) {
                return result;
            }
            assert!(Instant::now() < until, "the call does not return");
            if let Step::Wait(interest) = step
                && !self.connection.wants_poll()
            {
                self.wait(interest);
            }
        }
    }

    fn wait(&self, interest: Interest) {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, interest.read);
        flags.set(PollFlags::OUT, interest.write);
        let left = interest.until.map(|at| at.saturating_duration_since(self.clock.now()));
        let left = left.unwrap_or(TIMEOUT).min(TIMEOUT) + Duration::from_millis(1);
        let timeout = Timespec::try_from(left).unwrap();
        poll(&mut [PollFd::from_borrowed_fd(self.stream.as_fd(), flags)], Some(&timeout)).unwrap();
    }

    /// Returns when the message has left this process.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<(), CallError> {
        let mut sending = Sending::message(message);
        self.call(|connection, _| connection.send(&mut sending))
    }

    pub(crate) fn finish(&mut self) -> Result<(), CallError> {
        let mut sending = Sending::finish();
        self.call(|connection, _| connection.send(&mut sending))
    }

    pub(crate) fn recv(&mut self) -> Result<Option<Vec<u8>>, CallError> {
        self.call(CallConnection::recv)
    }

    /// The error of the session, as the next call reports it.
    pub(crate) fn session_error(&mut self) -> Option<Error> {
        match self.recv() {
            Err(CallError::Protocol(error)) => Some(error),
            _ => None,
        }
    }

    /// The address that the server sees.
    pub(crate) fn local_address(&self) -> String {
        let Stream::Tcp(stream) = &self.stream else { panic!("not TCP") };
        stream.local_addr().unwrap().to_string()
    }
}
