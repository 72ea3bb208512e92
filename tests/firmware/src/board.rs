//! The LM3S6965: its first UART and its time.

use core::convert::Infallible;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, SYST};
use cortex_m::{Peripherals, asm, interrupt};
use cortex_m_rt::exception;
use countersign::Instant;
use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};

/// The core's clock after a reset, in ticks of a millisecond.
const TICKS: u32 = 12_500;
/// The interrupt of the UART.
const UART_INTERRUPT: i16 = 5;

static MILLIS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    MILLIS.fetch_add(1, Ordering::Relaxed);
}

#[exception]
unsafe fn DefaultHandler(interrupt: i16) {
    if interrupt == UART_INTERRUPT {
        // It has woken us, which is all that it is for.
        Uart::INTERRUPTS.write(0);
    }
}

#[derive(Clone, Copy)]
struct Number(u8);

// SAFETY: the number is of the chip's first 240 interrupts.
unsafe impl interrupt::InterruptNumber for Number {
    fn number(self) -> u16 {
        self.0.into()
    }
}

/// Starts the clock. Once.
pub fn start() {
    let Some(mut peripherals) = Peripherals::take() else { return };
    let clock = &mut peripherals.SYST;
    clock.set_clock_source(SystClkSource::Core);
    clock.set_reload(TICKS - 1);
    clock.clear_current();
    clock.enable_counter();
    clock.enable_interrupt();
    // SAFETY: no code relies on this interrupt's being masked.
    unsafe { NVIC::unmask(Number(UART_INTERRUPT as u8)) };
}

/// Since the start. Goes on for 49 days.
pub fn now() -> Instant {
    loop {
        let millis = MILLIS.load(Ordering::Relaxed);
        let ticks = TICKS - 1 - SYST::get_current();
        if millis == MILLIS.load(Ordering::Relaxed) {
            return Instant::from_micros(u64::from(millis) * 1000 + u64::from(ticks * 2 / 25));
        }
    }
}

/// Sleeps until a byte comes, or for a millisecond.
pub fn pause() {
    // With interrupts off, one that comes before we sleep ends the sleep all the same.
    interrupt::free(|_| {
        Uart::INTERRUPTS.write(Uart::RECEIVED);
        asm::wfi();
    });
}

struct Register(usize);

impl Register {
    fn read(&self) -> u32 {
        // SAFETY: registers of the UART, of which the addresses below are.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    fn write(&self, value: u32) {
        // SAFETY: as above; none of them has effects on memory.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }
}

/// The first UART, which is on as the machine starts. Without its queues: to switch those on would drop
/// a byte that has come before, and the server speaks first.
pub struct Uart(());

impl Uart {
    const DATA: Register = Register(0x4000_c000);
    const FLAGS: Register = Register(0x4000_c018);
    const INTERRUPTS: Register = Register(0x4000_c038);
    const NOTHING_CAME: u32 = 1 << 4;
    const FULL: u32 = 1 << 5;
    const RECEIVED: u32 = 1 << 4;

    /// There is one.
    pub fn take() -> Self {
        Self(())
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(Self::FLAGS.read() & Self::NOTHING_CAME == 0)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(Self::FLAGS.read() & Self::FULL == 0)
    }
}

impl Read for Uart {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut n = 0;
        while n < buf.len() && (n == 0 || self.read_ready()?) {
            while !self.read_ready()? {}
            buf[n] = Self::DATA.read() as u8;
            n += 1;
        }
        Ok(n)
    }
}

impl Write for Uart {
    fn write(&mut self, buf: &[u8]) -> Result<usize, Infallible> {
        let mut n = 0;
        while n < buf.len() && (n == 0 || self.write_ready()?) {
            while !self.write_ready()? {}
            Self::DATA.write(buf[n].into());
            n += 1;
        }
        Ok(n)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
