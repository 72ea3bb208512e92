//! The machine that the board is played on, by semihosting.

use core::arch::asm;
use core::str;

fn call(operation: u32, argument: *const u32) -> u32 {
    let answer;
    // SAFETY: the debugger reads and writes what `argument` points to, as its operation says.
    unsafe {
        asm!("bkpt #0xab", inlateout("r0") operation => answer, in("r1") argument, options(nostack));
    }
    answer
}

/// Writes a word and a space.
pub fn print(text: &str) {
    for byte in text.bytes().chain(*b" ") {
        let byte = u32::from(byte);
        call(0x03, &byte);
    }
}

/// Writes a word, and ends the line.
pub fn line(text: &str) {
    print(text);
    let end = u32::from(b'\n');
    call(0x03, &end);
}

/// Writes a number.
pub fn number(number: u32) {
    let mut digits = [b'0'; 10];
    let mut left = number;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    print(str::from_utf8(&digits[at..]).unwrap_or("?"));
}

/// What the program was started with.
pub struct Arguments([u8; 256]);

impl Arguments {
    /// Asks for them.
    pub fn get() -> Self {
        let mut bytes = [0_u8; 256];
        let block = [bytes.as_mut_ptr() as u32, bytes.len() as u32];
        call(0x15, block.as_ptr());
        Self(bytes)
    }

    /// One after the other.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(0);
        str::from_utf8(&self.0[..end]).unwrap_or("").split(' ')
    }
}

/// Ends the program with `code`.
pub fn exit(code: u32) -> ! {
    loop {
        let block = [0x2_0026, code];
        call(0x20, block.as_ptr());
    }
}
