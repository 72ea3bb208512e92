//! [`LeaseHolder`]: the connection that leases buffers.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crate::principal::{AtomicPrincipal, Principal};

/// The connection that leases buffers: what wakes it, and the [`Principal`] to whom its leases are
/// accounted. Clones are the same holder.
#[derive(Clone)]
pub struct LeaseHolder(Arc<dyn Holder>);

/// What a [`LeaseHolder`] is.
pub(crate) trait Holder: Send + Sync {
    fn wake(&self);
    fn principal(&self) -> &AtomicPrincipal;
}

/// A holder that is nothing else.
struct Woken {
    waker: Waker,
    principal: AtomicPrincipal,
}

impl Holder for Woken {
    fn wake(&self) {
        self.waker.wake_by_ref();
    }

    fn principal(&self) -> &AtomicPrincipal {
        &self.principal
    }
}

impl LeaseHolder {
    /// A holder that is woken by `waker`. All without a principal of their own share one.
    #[must_use]
    pub fn new(waker: Waker) -> Self {
        Self::of(Arc::new(Woken { waker, principal: AtomicPrincipal::default() }))
    }

    pub(crate) fn of(holder: Arc<dyn Holder>) -> Self {
        Self(holder)
    }

    /// Accounts later leases to `principal`. Those that are held or awaited stay where they are.
    pub fn set_principal(&self, principal: Principal) {
        self.0.principal().set(principal);
    }

    pub(crate) fn principal(&self) -> Principal {
        self.0.principal().get()
    }

    pub(crate) fn wake(&self) {
        self.0.wake();
    }
}

/// A holder that nothing wakes.
impl Default for LeaseHolder {
    fn default() -> Self {
        Self::new(Waker::noop().clone())
    }
}

impl From<Waker> for LeaseHolder {
    fn from(waker: Waker) -> Self {
        Self::new(waker)
    }
}

impl From<&Waker> for LeaseHolder {
    fn from(waker: &Waker) -> Self {
        Self::new(waker.clone())
    }
}

impl fmt::Debug for LeaseHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseHolder").finish_non_exhaustive()
    }
}
