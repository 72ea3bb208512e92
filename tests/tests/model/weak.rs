//! A copy of the core whose protections can be removed one by one: see tests/build.rs.

use super::protection::Protection;

include!(concat!(env!("OUT_DIR"), "/weak.rs"));

#[path = "driver.rs"]
pub(crate) mod driver;
