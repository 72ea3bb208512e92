//! Measures the deepest use of the stack, by filling it with a pattern.

use core::ptr;

use cortex_m::register::msp;

unsafe extern "C" {
    static mut __sheap: u32;
    static mut _stack_start: u32;
}

const PATTERN: u32 = 0xdead_57ac;

/// Fills the unused stack with the pattern. Call it first.
#[inline(never)]
pub fn fill() {
    let mut word = &raw mut __sheap;
    // This function itself uses less than 64 bytes below the stack pointer.
    let end = (msp::read() - 64) as *mut u32;
    while word < end {
        // SAFETY: nothing is stored between the last static variable and the stack pointer.
        unsafe {
            ptr::write_volatile(word, PATTERN);
            word = word.add(1);
        }
    }
}

/// Most bytes of stack that were in use at once since [`fill`].
pub fn max_depth() -> u32 {
    let mut word = (&raw const __sheap).cast::<u32>();
    let end = (&raw const _stack_start).cast::<u32>();
    // SAFETY: from the last static variable to the start of the stack, all is readable memory.
    while word < end && unsafe { ptr::read_volatile(word) } == PATTERN {
        word = word.wrapping_add(1);
    }
    end as u32 - word as u32
}
