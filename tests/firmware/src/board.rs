//! The LM3S6965's clock and interrupts.

use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, SYST};
use cortex_m::{Peripherals, asm, interrupt};
use cortex_m_rt::exception;
use countersign::Instant;

use crate::uart::Uart;

/// Ticks of the core's clock in a millisecond: 12.5 MHz after a reset.
const TICKS_PER_MILLI: u32 = 12_500;

static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    MILLIS.fetch_add(1, Ordering::Relaxed);
}

#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    if interrupt == Uart::INTERRUPT {
        // Its only purpose is to end the sleep in `sleep_until_input`.
        Uart::disable_interrupt();
    }
}

#[derive(Clone, Copy)]
struct InterruptNumber(u8);

// SAFETY: the only number in use is the UART's, which is below 240.
unsafe impl interrupt::InterruptNumber for InterruptNumber {
    fn number(self) -> u16 {
        self.0.into()
    }
}

/// Starts the clock. Later calls do nothing.
pub fn start() {
    let Some(mut peripherals) = Peripherals::take() else { return };
    let clock = &mut peripherals.SYST;
    clock.set_clock_source(SystClkSource::Core);
    clock.set_reload(TICKS_PER_MILLI - 1);
    clock.clear_current();
    clock.enable_counter();
    clock.enable_interrupt();
    // SAFETY: no critical section depends on this interrupt's mask.
    unsafe { NVIC::unmask(InterruptNumber(Uart::INTERRUPT as u8)) };
}

/// The time since [`start`]. It wraps around after 49 days.
pub fn now() -> Instant {
    loop {
        let millis = MILLIS.load(Ordering::Relaxed);
        let ticks = TICKS_PER_MILLI - 1 - SYST::get_current();
        // Otherwise the counter was reloaded between the two reads.
        if millis == MILLIS.load(Ordering::Relaxed) {
            return Instant::from_micros(u64::from(millis) * 1000 + u64::from(ticks * 2 / 25));
        }
    }
}

/// Sleeps until the UART receives a byte, at most a millisecond.
pub fn sleep_until_input() {
    // With interrupts masked, one that arrives before `wfi` is pending there, and ends the sleep at once.
    interrupt::free(|_| {
        Uart::enable_receive_interrupt();
        asm::wfi();
    });
}
