//! The network between two endpoints.

use std::collections::VecDeque;
use std::time::Duration;

use countersign::Instant;
use countersign_driver::Io;

use super::rng::Rng;

/// One direction of a link. Bytes arrive in order.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    /// When the sender's end of stream arrives.
    end: Option<Instant>,
    last_arrival: Option<Instant>,
    reset: bool,
    /// Bytes in flight never arrive.
    frozen: bool,
    /// All bytes ever sent.
    sent: Vec<u8>,
}

/// Delays and limits of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkConfig {
    /// The longest delay.
    pub(crate) delay: Duration,
    /// Most bytes in flight, in one direction.
    pub(crate) capacity: usize,
    /// Most bytes that one read or write moves.
    pub(crate) max_io: u64,
}

impl Pipe {
    /// Returns when something sent now arrives.
    fn arrival(&mut self, link: &LinkConfig, rng: &mut Rng, now: Instant) -> Instant {
        let delay = rng.within(0, link.delay.as_micros() as u64);
        let at = now.saturating_add(Duration::from_micros(delay));
        let at = self.last_arrival.map_or(at, |last| last.max(at));
        self.last_arrival = Some(at);
        at
    }

    pub(crate) fn free_space(&self, link: &LinkConfig) -> usize {
        link.capacity.saturating_sub(self.in_flight)
    }

    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        link: &LinkConfig,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<usize> {
        let n = self.free_space(link).min(bytes.len()).min(rng.within(1, link.max_io) as usize);
        if n == 0 {
            return None;
        }
        let at = self.arrival(link, rng, now);
        self.in_flight += n;
        self.chunks.push_back((at, bytes[..n].to_vec()));
        self.sent.extend_from_slice(&bytes[..n]);
        Some(n)
    }

    pub(crate) fn shut(&mut self, link: &LinkConfig, rng: &mut Rng, now: Instant) {
        self.end = Some(self.arrival(link, rng, now));
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.chunks.clear();
    }

    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    pub(crate) fn sent(&self) -> &[u8] {
        &self.sent
    }

    pub(crate) fn is_readable(&self, now: Instant) -> bool {
        if self.frozen {
            return false;
        }
        match self.chunks.front() {
            _ if self.reset => true,
            Some((at, _)) => *at <= now,
            None => self.end.is_some_and(|at| at <= now),
        }
    }

    pub(crate) fn is_writable(&self, link: &LinkConfig) -> bool {
        self.reset || self.free_space(link) > 0
    }

    /// Returns the time after `now` at which the next bytes, or the end of the stream, arrive.
    pub(crate) fn next_arrival(&self, now: Instant) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        let first = self.chunks.front().map(|(at, _)| *at);
        first.or(self.end).filter(|at| *at > now)
    }

    pub(crate) fn read(
        &mut self,
        into: &mut [u8],
        max_io: u64,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<usize> {
        if self.frozen {
            return None;
        }
        if self.chunks.is_empty() {
            return self.end.filter(|at| *at <= now).map(|_| 0);
        }
        let max = into.len().min(rng.within(1, max_io) as usize);
        let mut n = 0;
        while n < max
            && let Some((at, chunk)) = self.chunks.front_mut()
            && *at <= now
        {
            let take = chunk.len().min(max - n);
            into[n..n + take].copy_from_slice(&chunk[..take]);
            chunk.drain(..take);
            n += take;
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.in_flight -= n;
        (n > 0).then_some(n)
    }
}

/// Error: the connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset;

/// One endpoint's view of a link.
pub(crate) struct Socket<'a> {
    pub(crate) inbound: &'a mut Pipe,
    pub(crate) outbound: &'a mut Pipe,
    pub(crate) link: &'a LinkConfig,
    pub(crate) rng: &'a mut Rng,
    pub(crate) now: Instant,
}

impl Io for Socket<'_> {
    type Error = Reset;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Reset> {
        if self.inbound.reset {
            return Err(Reset);
        }
        Ok(self.inbound.read(into, self.link.max_io, self.rng, self.now))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Reset> {
        if self.outbound.reset {
            return Err(Reset);
        }
        Ok(self.outbound.send(from, self.link, self.rng, self.now))
    }

    fn shut_write(&mut self) -> Result<(), Reset> {
        self.outbound.shut(self.link, self.rng, self.now);
        Ok(())
    }
}
