//! [`Uart`].

use core::convert::Infallible;
use core::ptr;

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};

struct Register(usize);

impl Register {
    fn read(&self) -> u32 {
        // SAFETY: the address is one of the UART's registers below.
        unsafe { ptr::read_volatile(self.0 as *const u32) }
    }

    fn write(&self, value: u32) {
        // SAFETY: as above; these registers have no effect on memory.
        unsafe { ptr::write_volatile(self.0 as *mut u32, value) }
    }
}

/// The LM3S6965's first UART, which QEMU enables at reset. Its FIFOs stay off: enabling them would drop
/// a byte that has already arrived, and the server sends first.
pub struct Uart(());

impl Uart {
    /// The number of its interrupt.
    pub(crate) const INTERRUPT: i16 = 5;

    const DATA: Register = Register(0x4000_c000);
    const FLAGS: Register = Register(0x4000_c018);
    const INTERRUPT_MASK: Register = Register(0x4000_c038);
    /// In `FLAGS`: nothing has been received.
    const RECEIVE_EMPTY: u32 = 1 << 4;
    /// In `FLAGS`: nothing can be sent.
    const TRANSMIT_FULL: u32 = 1 << 5;
    /// In `INTERRUPT_MASK`: a byte has been received.
    const RECEIVE_INTERRUPT: u32 = 1 << 4;

    /// Takes the UART. Each program takes it once.
    pub fn take() -> Self {
        Self(())
    }

    pub(crate) fn enable_receive_interrupt() {
        Self::INTERRUPT_MASK.write(Self::RECEIVE_INTERRUPT);
    }

    pub(crate) fn disable_interrupt() {
        Self::INTERRUPT_MASK.write(0);
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(Self::FLAGS.read() & Self::RECEIVE_EMPTY == 0)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(Self::FLAGS.read() & Self::TRANSMIT_FULL == 0)
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
