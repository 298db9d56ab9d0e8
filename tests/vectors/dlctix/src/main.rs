//! Test vectors and reference timings from the published crate `dlctix` 0.0.7.
//!
//! `vectors [DIR]` writes the JSON files (default `vectors/` beside Cargo.toml);
//! `bench N W` prints one JSON line of timings. See README.md for the fields.

mod bench;
mod contracts;
mod extras;
mod sets;
mod signing;
mod vectors;

use std::error::Error;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: dlctix-vectors vectors [DIR] | bench N W";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["vectors"] => vectors::write_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")),
        ["vectors", dir] => vectors::write_all(&PathBuf::from(dir)),
        ["bench", n, w] => bench::run(n.parse()?, w.parse()?),
        ["bench-sign", n, w, path] => bench::sign_to_file(n.parse()?, w.parse()?, Path::new(path)),
        _ => Err(USAGE.into()),
    }
}
