use std::path::Path;
use crate::Result;
pub fn run(_n: usize, _w: usize) -> Result<()> { unimplemented!() }
pub fn sign_to_file(_n: usize, _w: usize, _path: &Path) -> Result<()> { unimplemented!() }
