//! A segment: header, records and footer as lines, compressed as one zstd frame with zstd's own checksum; behind it, in a
//! frame that zstd skips, the SHA-256 of the first, because some bits of a frame mean nothing and are under no checksum.

use std::io::{BufRead as _, BufReader, Read as _};

use sha2::{Digest, Sha256};

use super::line::{Footer, Header, Line, Position};
use crate::ids::{Hash, JournalRoot};
use crate::merkle::Growing;

/// Version of the form.
pub const FORMAT: u32 = 1;

/// Root of a journal without a segment.
pub const NO_ROOT: JournalRoot = JournalRoot([0; 32]);

/// How the frame behind the first begins: zstd's first magic number of those to be skipped, and its length.
const SEAL_HEAD: [u8; 8] = [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0];

/// Longest line: no settler writes one that comes near, and no reader has to hold more.
const LINE_MAX_BYTES: u64 = 64 << 20;

/// What is wrong with a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment}{}: {detail}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct Fault {
    /// The segment.
    pub segment: u64,
    /// The line, from 1, where one can be named.
    pub line: Option<u64>,
    /// What was found.
    pub detail: String,
}

/// A segment ready to be stored.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The object's bytes.
    pub bytes: Vec<u8>,
    /// Length before compression.
    pub text_bytes: usize,
    /// What the next segment builds on.
    pub head: Head,
    /// Lines between header and footer.
    pub records: u64,
}

/// Where a journal stands after some segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the segment; 0 before the first.
    pub number: u64,
    /// Root up to and with it.
    pub root: JournalRoot,
    /// How far it reaches, as in its header.
    pub positions: Vec<Position>,
}

impl Head {
    /// Of a journal without a segment.
    pub const NONE: Head = Head { number: 0, root: NO_ROOT, positions: Vec::new() };
}

/// The journal's root after a segment: SHA-256 over `"millrace:journal:1"`, the root before it, the root of its records
/// and the SHA-256 of its header line.
pub fn chain(previous: &JournalRoot, records_root: &Hash, header: &[u8]) -> JournalRoot {
    let mut hash = Sha256::new();
    hash.update(b"millrace:journal:1");
    hash.update(previous.as_bytes());
    hash.update(records_root.as_bytes());
    hash.update(Sha256::digest(header));
    JournalRoot(hash.finalize().into())
}

/// Makes a segment of a header and lines (without line feeds), at a zstd compression level.
///
/// # Errors
/// The compressor refuses, which only a lack of memory makes it do.
pub fn encode<'a>(
    header: &Header,
    records: impl IntoIterator<Item = &'a [u8]>,
    level: i32,
) -> std::io::Result<Encoded> {
    let header_line = Line::Header(header.clone()).to_json();
    let mut text = header_line.clone();
    text.push(b'\n');
    let mut tree = Growing::default();
    let mut count = 0u64;
    for record in records {
        tree.push(record);
        count = count.saturating_add(1);
        text.extend_from_slice(record);
        text.push(b'\n');
    }
    let records_root = tree.root();
    let root = chain(&header.previous, &records_root, &header_line);
    let footer = Footer { records: count, records_root, root };
    text.extend(Line::Footer(footer).to_json());
    text.push(b'\n');
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    let head = Head { number: header.number, root, positions: header.positions.clone() };
    let bytes = seal(compressor.compress(&text)?);
    Ok(Encoded { bytes, text_bytes: text.len(), head, records: count })
}

/// Puts the frame with its SHA-256 behind a frame.
pub fn seal(mut frame: Vec<u8>) -> Vec<u8> {
    let hash = Sha256::digest(&frame);
    frame.extend(SEAL_HEAD);
    frame.extend(hash);
    frame
}

/// The frame before the one with its SHA-256; `None` if that is not there, or not right.
fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (rest, hash) = bytes.split_last_chunk::<32>()?;
    let frame = rest.strip_suffix(&SEAL_HEAD)?;
    (Sha256::digest(frame).as_slice() == hash).then_some(frame)
}

/// Lines of a segment that are read one by one, with their numbers.
pub struct Lines<'a> {
    segment: u64,
    reader: BufReader<zstd::Decoder<'a, &'a [u8]>>,
    at: u64,
}

impl<'a> Lines<'a> {
    /// Begins to read the segment of this number.
    ///
    /// # Errors
    /// The bytes are not those that were written.
    pub fn new(segment: u64, bytes: &'a [u8]) -> Result<Lines<'a>, Fault> {
        let fault = |detail: String| Fault { segment, line: None, detail };
        let frame = unseal(bytes).ok_or_else(|| {
            fault("the bytes are not those that were written: their SHA-256 differs".to_owned())
        })?;
        let decoder = zstd::Decoder::with_buffer(frame).map_err(|error| fault(error.to_string()))?;
        Ok(Lines { segment, reader: BufReader::new(decoder), at: 0 })
    }

    /// The next line without its line feed, or `None` at the end.
    ///
    /// # Errors
    /// The compressed bytes were changed or cut off, or a line is not ended.
    pub fn next_line(&mut self) -> Result<Option<(u64, Vec<u8>)>, Fault> {
        self.at = self.at.saturating_add(1);
        let mut line = Vec::new();
        let read = (&mut self.reader).take(LINE_MAX_BYTES).read_until(b'\n', &mut line);
        match read {
            Err(error) => Err(self.fault(format!("the compressed bytes are damaged or cut off: {error}"))),
            Ok(0) => Ok(None),
            Ok(_) if line.pop() == Some(b'\n') => Ok(Some((self.at, line))),
            Ok(_) => Err(self.fault("the line has no end".to_owned())),
        }
    }

    /// A fault of the line that was read last.
    pub fn fault(&self, detail: impl Into<String>) -> Fault {
        Fault { segment: self.segment, line: Some(self.at), detail: detail.into() }
    }

    /// The header, which is the first line, with its text.
    ///
    /// # Errors
    /// It is not, or of another segment, or of a form that this version does not know.
    pub fn header(&mut self) -> Result<(Header, Vec<u8>), Fault> {
        let Some((_, text)) = self.next_line()? else {
            return Err(self.fault("the segment is empty"));
        };
        let header = match serde_json::from_slice(&text) {
            Ok(Line::Header(header)) => header,
            Ok(_) => return Err(self.fault("the first line is no header")),
            Err(error) => return Err(self.fault(format!("the first line is no header: {error}"))),
        };
        if header.format != FORMAT {
            return Err(self.fault(format!("form {}, this version reads {FORMAT}", header.format)));
        }
        if header.number != self.segment {
            return Err(self.fault(format!("the header is that of segment {}", header.number)));
        }
        Ok((header, text))
    }
}

/// A segment that holds together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first line.
    pub header: Header,
    /// Its last line, which is right.
    pub footer: Footer,
}

impl Segment {
    /// Where the journal stands after it.
    pub fn head(&self) -> Head {
        Head { number: self.header.number, root: self.footer.root, positions: self.header.positions.clone() }
    }
}

/// Reads a segment to its end, giving each record with the number of its line and its text to `visit`, and checks what
/// one segment can show by itself: checksum, order of lines, number of records, and both roots.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(number: u64, bytes: &[u8], mut visit: impl FnMut(u64, &Line, &[u8])) -> Result<Segment, Fault> {
    let mut lines = Lines::new(number, bytes)?;
    let (header, header_text) = lines.header()?;
    let mut tree = Growing::default();
    let mut records = 0u64;
    let footer = loop {
        let Some((at, text)) = lines.next_line()? else {
            return Err(lines.fault("the segment ends without a footer"));
        };
        let line = serde_json::from_slice(&text)
            .map_err(|error| lines.fault(format!("not a line of a journal: {error}")))?;
        match line {
            Line::Footer(footer) => break footer,
            Line::Header(_) => return Err(lines.fault("a second header")),
            record => {
                tree.push(&text);
                records = records.saturating_add(1);
                visit(at, &record, &text);
            }
        }
    };
    let records_root = tree.root();
    if footer.records != records {
        return Err(lines.fault(format!("the footer counts {} records, there are {records}", footer.records)));
    }
    if footer.records_root != records_root {
        let found = records_root;
        let expected = footer.records_root;
        return Err(lines.fault(format!("the records have the root {found}, the footer says {expected}")));
    }
    let root = chain(&header.previous, &records_root, &header_text);
    if footer.root != root {
        return Err(
            lines.fault(format!("header and records give the root {root}, the footer says {}", footer.root))
        );
    }
    if lines.next_line()?.is_some() {
        return Err(lines.fault("a line after the footer"));
    }
    Ok(Segment { header, footer })
}
