//! `baseline`: the board without countersign. The sizes of the other programs are compared with it.

#![no_std]
#![no_main]

use cortex_m_rt::entry;
use countersign_firmware::{Uart, board, exit, semihosting, stack};
use embedded_io::{Read, ReadReady, Write};

#[entry]
fn main() -> ! {
    stack::fill();
    board::start();
    let arguments = semihosting::Arguments::get();
    let mut uart = Uart::take();
    let Ok(ready) = uart.read_ready();
    if arguments.words().nth(9).is_some() && ready {
        let mut byte = [0];
        let _ = uart.read(&mut byte).and_then(|n| uart.write(&byte[..n]));
    }
    semihosting::print_number(board::now().as_micros() as u32);
    exit::done()
}
