//! countersign for blocking programs: a [`Client`] that connects, sends and receives.

mod client;
mod rouse;

pub use client::{Client, ClientError, ClientOptions};
