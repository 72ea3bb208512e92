//! How deep the stack has been.

use core::ptr;

use cortex_m::register::msp;

unsafe extern "C" {
    static mut __sheap: u32;
    static mut _stack_start: u32;
}

const PAINT: u32 = 0xdead_57ac;

/// Paints what is not in use of it. At the start.
#[inline(never)]
pub fn paint() {
    let mut at = &raw mut __sheap;
    // Well below what this function itself uses.
    let end = (msp::read() - 64) as *mut u32;
    while at < end {
        // SAFETY: between the last variable and the stack's end there is nothing.
        unsafe {
            ptr::write_volatile(at, PAINT);
            at = at.add(1);
        }
    }
}

/// How many bytes of it were ever in use.
pub fn deepest() -> u32 {
    let mut at = (&raw const __sheap).cast::<u32>();
    let end = (&raw const _stack_start).cast::<u32>();
    // SAFETY: as above, and what is behind it is the stack.
    while at < end && unsafe { ptr::read_volatile(at) } == PAINT {
        at = at.wrapping_add(1);
    }
    end as u32 - at as u32
}
