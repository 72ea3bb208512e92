//! The board, and what its programs share.
//!
//! The programs are tests: they report by semihosting, in lines on QEMU's standard error and by the
//! exit code.

#![no_std]

pub mod board;
pub mod connection;
mod device_secret;
pub mod exit;
pub mod semihosting;
pub mod stack;
mod uart;

pub use device_secret::DeviceSecret;
pub use uart::Uart;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    semihosting::print("panic");
    if let Some(location) = info.location() {
        semihosting::print(location.file());
        semihosting::print_number(location.line());
    }
    semihosting::end_line("");
    semihosting::exit(exit::PANIC)
}
