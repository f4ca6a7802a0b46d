//! Says for which machine it was compiled.

fn main() {
    println!("hello from Rust on {}", std::env::consts::ARCH);
}
