//! The core itself.

pub(crate) use countersign as protocol;

#[path = "driver.rs"]
pub(crate) mod driver;
