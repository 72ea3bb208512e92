//! Calls to the host by semihosting (ARM "Semihosting for AArch32 and AArch64").

use core::arch::asm;
use core::str;

const SYS_WRITEC: u32 = 0x03;
const SYS_GET_CMDLINE: u32 = 0x15;
const SYS_EXIT_EXTENDED: u32 = 0x20;
/// Reason of an exit with a code: ADP_Stopped_ApplicationExit.
const APPLICATION_EXIT: u32 = 0x2_0026;

fn call(operation: u32, argument: *const u32) -> u32 {
    let result;
    // SAFETY: the host accesses only the memory that `argument` points to, as the operation defines.
    unsafe {
        asm!("bkpt #0xab", inlateout("r0") operation => result, in("r1") argument, options(nostack));
    }
    result
}

/// Writes `text` and a space.
pub fn print(text: &str) {
    for byte in text.bytes().chain(*b" ") {
        let byte = u32::from(byte);
        call(SYS_WRITEC, &byte);
    }
}

/// Writes `text`, and ends the line.
pub fn end_line(text: &str) {
    print(text);
    let newline = u32::from(b'\n');
    call(SYS_WRITEC, &newline);
}

/// Writes `number` in decimal and a space. The formatting of `core` would add to the program's size,
/// which the tests measure.
pub fn print_number(number: u32) {
    let mut digits = [b'0'; 10];
    let mut remaining = number;
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (remaining % 10) as u8;
        remaining /= 10;
        if remaining == 0 {
            break;
        }
    }
    print(str::from_utf8(&digits[start..]).unwrap_or("?"));
}

/// The command line of the program, at most 255 bytes.
pub struct Arguments([u8; 256]);

impl Arguments {
    /// Gets the command line from the host.
    pub fn get() -> Self {
        let mut bytes = [0_u8; 256];
        let block = [bytes.as_mut_ptr() as u32, bytes.len() as u32];
        call(SYS_GET_CMDLINE, block.as_ptr());
        Self(bytes)
    }

    /// The words of the command line.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(0);
        str::from_utf8(&self.0[..end]).unwrap_or("").split(' ')
    }
}

/// Ends the program with exit code `code`.
pub fn exit(code: u32) -> ! {
    loop {
        let block = [APPLICATION_EXIT, code];
        call(SYS_EXIT_EXTENDED, block.as_ptr());
    }
}
