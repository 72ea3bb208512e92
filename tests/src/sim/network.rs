//! What lies between two ends.

use std::collections::VecDeque;
use std::time::Duration;

use countersign::Instant;
use countersign_driver::Io;

use super::rng::Rng;

/// One direction of a link: bytes on their way, in order.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    /// When the sender's end of stream arrives.
    end: Option<Instant>,
    last: Option<Instant>,
    reset: bool,
    /// Nothing that is under way ever arrives.
    frozen: bool,
    carried: Vec<u8>,
}

/// How a link treats its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    /// The longest delay.
    pub(crate) delay: Duration,
    /// Bytes that may be under way at once, in one direction.
    pub(crate) capacity: usize,
    /// The longest piece that a read or write moves, in bytes.
    pub(crate) piece: u64,
}

impl Pipe {
    fn arrives(&mut self, quality: &Quality, rng: &mut Rng, now: Instant) -> Instant {
        let delay = rng.within(0, quality.delay.as_micros() as u64);
        let at = now.saturating_add(Duration::from_micros(delay));
        let at = self.last.map_or(at, |last| last.max(at));
        self.last = Some(at);
        at
    }

    pub(crate) fn room(&self, quality: &Quality) -> usize {
        quality.capacity.saturating_sub(self.in_flight)
    }

    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        quality: &Quality,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<usize> {
        let room = self.room(quality).min(bytes.len()).min(rng.within(1, quality.piece) as usize);
        if room == 0 {
            return None;
        }
        let at = self.arrives(quality, rng, now);
        self.in_flight += room;
        self.chunks.push_back((at, bytes[..room].to_vec()));
        self.carried.extend_from_slice(&bytes[..room]);
        Some(room)
    }

    pub(crate) fn shut(&mut self, quality: &Quality, rng: &mut Rng, now: Instant) {
        self.end = Some(self.arrives(quality, rng, now));
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

    /// All that was ever sent.
    pub(crate) fn carried(&self) -> &[u8] {
        &self.carried
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

    pub(crate) fn is_writable(&self, quality: &Quality) -> bool {
        self.reset || self.room(quality) > 0
    }

    /// When something arrives that has not.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        let first = self.chunks.front().map(|(at, _)| *at);
        first.or(self.end).filter(|at| *at > now)
    }

    pub(crate) fn read(
        &mut self,
        into: &mut [u8],
        piece: u64,
        rng: &mut Rng,
        now: Instant,
    ) -> Option<usize> {
        if self.frozen {
            return None;
        }
        if self.chunks.is_empty() {
            return self.end.filter(|at| *at <= now).map(|_| 0);
        }
        let most = into.len().min(rng.within(1, piece) as usize);
        let mut n = 0;
        while n < most
            && let Some((at, chunk)) = self.chunks.front_mut()
            && *at <= now
        {
            let take = chunk.len().min(most - n);
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

/// The connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset;

/// One end of a link.
pub(crate) struct Socket<'a> {
    pub(crate) inbound: &'a mut Pipe,
    pub(crate) outbound: &'a mut Pipe,
    pub(crate) quality: &'a Quality,
    pub(crate) rng: &'a mut Rng,
    pub(crate) now: Instant,
}

impl Io for Socket<'_> {
    type Error = Reset;

    fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Reset> {
        if self.inbound.reset {
            return Err(Reset);
        }
        Ok(self.inbound.read(into, self.quality.piece, self.rng, self.now))
    }

    fn write(&mut self, from: &[u8]) -> Result<Option<usize>, Reset> {
        if self.outbound.reset {
            return Err(Reset);
        }
        Ok(self.outbound.send(from, self.quality, self.rng, self.now))
    }

    fn shut_write(&mut self) -> Result<(), Reset> {
        self.outbound.shut(self.quality, self.rng, self.now);
        Ok(())
    }
}
