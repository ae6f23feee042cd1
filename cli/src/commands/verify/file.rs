//! Reading what is to be verified.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;

/// More than any receipt, any answer, or any channel with a receipt, has bytes.
const FILE_MAX_BYTES: u64 = 1_048_576;

/// What is in a file, and its name for a person; `-` is stdin.
pub(super) fn read(file: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    let name = if file == Path::new("-") { "stdin".into() } else { file.display().to_string() };
    let text = bytes(file).with_context(|| format!("cannot read {name}"))?;
    Ok((name, text))
}

fn bytes(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let longest = FILE_MAX_BYTES + 1;
    if file == Path::new("-") {
        std::io::stdin().lock().take(longest).read_to_end(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(longest).read_to_end(&mut text)?;
    }
    if text.len() as u64 > FILE_MAX_BYTES {
        return Err(std::io::Error::other(format!("more than {FILE_MAX_BYTES} bytes")));
    }
    Ok(text)
}
