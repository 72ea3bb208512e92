//! Has the linker find the board's memory.

use std::{env, fs, path::Path};

fn main() {
    let out = env::var("OUT_DIR").expect("cargo says where");
    fs::copy("memory.x", Path::new(&out).join("memory.x")).expect("it can be copied");
    println!("cargo:rustc-link-search={out}");
    println!("cargo:rerun-if-changed=memory.x");
}
