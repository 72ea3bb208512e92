//! The board alone: what the other programs are measured against.

#![no_std]
#![no_main]

use cortex_m_rt::entry;
use countersign_firmware::board::{self, Uart};
use countersign_firmware::{host, stack, talk};
use embedded_io::{Read, ReadReady, Write};

#[entry]
fn main() -> ! {
    stack::paint();
    board::start();
    let arguments = host::Arguments::get();
    let mut uart = Uart::take();
    let Ok(ready) = uart.read_ready();
    if arguments.words().nth(9).is_some() && ready {
        let mut byte = [0];
        let _ = uart.read(&mut byte).and_then(|n| uart.write(&byte[..n]));
    }
    host::number(board::now().as_micros() as u32);
    talk::done()
}
