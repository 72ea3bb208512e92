//! A copy of the core whose protections can be switched off: see build.rs.

/// Linted where it comes from.
#[allow(warnings, missing_docs)]
pub(crate) mod protocol {
    include!(concat!(env!("OUT_DIR"), "/weak.rs"));
}

#[path = "driver.rs"]
pub(crate) mod driver;
