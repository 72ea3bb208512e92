//! The board, and what its programs share. They are tests: what they find they say by semihosting, in
//! lines and in the code with which they end.

#![no_std]

pub mod board;
pub mod host;
mod random;
pub mod stack;
pub mod talk;

pub use random::Secret;

/// How a program ends.
pub mod exit {
    /// All went well.
    pub const DONE: u32 = 0;
    /// The command line is wrong, or an answer was.
    pub const WRONG: u32 = 2;
    /// There was no connection to begin with: `refused WHY`.
    pub const REFUSED: u32 = 3;
    /// The connection ended, and not in order: `ended WHY`.
    pub const ENDED: u32 = 4;
    /// A panic.
    pub const PANIC: u32 = 101;
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    host::print("panic");
    if let Some(place) = info.location() {
        host::print(place.file());
        host::number(place.line());
    }
    host::line("");
    host::exit(exit::PANIC)
}
