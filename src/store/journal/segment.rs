//! One segment file: its name, its header, and reading frames from it.
//!
//! A segment is filled with zeros and synced before its first frame, so that appending overwrites what the file system
//! has allocated already and a sync has no metadata to write. Its header is written, and synced, before it gets its
//! name.
//!
//! | offset | bytes | what, little endian |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | format version: 2 if there may be fences in it, else 1 |
//! | 12 | 4 | CRC32 of the last frame of the segment before; 0 in the first |
//! | 16 | 8 | lsn of the first event; also the file's name |
//! | 24 | 8 | lsn of the first event of the segment before; 0 in the first |
//! | 32 | 8 | size of the file in bytes |
//! | 40 | 468 | zeros |
//! | 508 | 4 | CRC32 of all the above |

use std::io;
use std::path::{Path, PathBuf};

use super::frame::{self, BLOCK, is_zero, u32_at, u64_at};
use super::{At, Error};
use crate::domain::Lsn;
use crate::store::disk::{Disk, File, Open};

/// The format of a segment without fences.
pub(super) const PLAIN: u32 = 1;

/// The format of a segment in which there may be fences; the highest that is known.
pub(super) const FENCED: u32 = 2;

const MAGIC: [u8; 8] = *b"\xFFboxjrnl";

const SUFFIX: &str = ".journal";

/// How many bytes are read at once when little is expected: by a reader at the end of the journal.
pub(super) const READ_BYTES_MIN: usize = 16 << 10;

/// How many bytes are read at once when much is expected. A larger frame is read in one piece.
pub(super) const READ_BYTES_MAX: usize = 1 << 20;

/// Where a segment's first frame starts.
pub(super) const FIRST_FRAME: u64 = BLOCK as u64;

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// [`PLAIN`] or [`FENCED`].
    pub version: u32,
    pub first_lsn: Lsn,
    /// Of the segment before.
    pub previous_first_lsn: Lsn,
    /// Of the last frame of the segment before.
    pub previous_crc: u32,
    /// The file's size.
    pub bytes: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..8].copy_from_slice(&MAGIC);
        block[8..12].copy_from_slice(&self.version.to_le_bytes());
        block[12..16].copy_from_slice(&self.previous_crc.to_le_bytes());
        block[16..24].copy_from_slice(&self.first_lsn.0.to_le_bytes());
        block[24..32].copy_from_slice(&self.previous_first_lsn.0.to_le_bytes());
        block[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32fast::hash(&block[..508]);
        block[508..].copy_from_slice(&crc.to_le_bytes());
        block
    }

    fn decode(path: &Path, block: &[u8]) -> Result<Self, Error> {
        if block[..8] != MAGIC {
            return Err(Error::damaged(path, 0, "the file does not begin as a journal segment does"));
        }
        if crc32fast::hash(&block[..508]) != u32_at(block, 508) {
            return Err(Error::damaged(path, 0, "the checksum of the segment's header does not hold"));
        }
        let version = u32_at(block, 8);
        if !(PLAIN..=FENCED).contains(&version) {
            let file = path.to_path_buf();
            return Err(Error::UnsupportedVersion { file, found: version, supported: FENCED });
        }
        Ok(Self {
            version,
            previous_crc: u32_at(block, 12),
            first_lsn: Lsn(u64_at(block, 16)),
            previous_first_lsn: Lsn(u64_at(block, 24)),
            bytes: u64_at(block, 32),
        })
    }
}

/// Where the segment that begins with `first_lsn` is.
pub(super) fn path(dir: &Path, first_lsn: Lsn) -> PathBuf {
    dir.join(format!("{:020}{SUFFIX}", first_lsn.0))
}

/// The first lsns of all segments in `dir`, by their names, in order. A directory that is not there has none.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<Lsn>, Error> {
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.at("list", dir)?,
    };
    let mut lsns = Vec::with_capacity(names.len());
    for name in names {
        let Some(digits) = name.strip_suffix(SUFFIX) else { continue };
        let lsn = digits.parse().ok().filter(|_| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()));
        let lsn = lsn.ok_or_else(|| Error::damaged(&dir.join(&name), 0, "no segment has such a name"))?;
        lsns.push(Lsn(lsn));
    }
    lsns.sort_unstable();
    Ok(lsns)
}

/// What stands at some offset of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A frame whose CRC, the second part, holds.
    Frame(frame::Header, u32),
    /// A frame whose CRC holds, but not its padding, which no torn write explains.
    BadPadding,
    /// Something else.
    Bad(&'static str),
    /// An empty block, or the end of the file.
    End,
}

/// What stands from some offset to the end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rest {
    /// Where the first frame is whose own CRC holds. Nothing after it was looked at.
    pub frame: Option<u64>,
    /// Where the last block ends that is not empty.
    pub used_to: u64,
}

/// An open segment, and a part of it in memory.
pub(super) struct Segment {
    file: Box<dyn File>,
    path: PathBuf,
    header: Header,
    buffer: Vec<u8>,
    /// The buffer's place in the file.
    buffer_at: u64,
    /// How many bytes to read next.
    read_bytes: usize,
}

impl Segment {
    /// Opens the segment that begins with `first_lsn`, and checks its header, name and size.
    pub fn open(disk: &dyn Disk, dir: &Path, first_lsn: Lsn, how: Open) -> Result<Self, Error> {
        let path = path(dir, first_lsn);
        let file = disk.open(&path, how).at("open", &path)?;
        let bytes = file.size().at("measure", &path)?;
        if bytes < BLOCK as u64 {
            return Err(Error::damaged(&path, bytes, "the file is too short for a segment's header"));
        }
        let mut block = [0; BLOCK];
        read_all(&*file, &mut block, 0).at("read", &path)?;
        let header = Header::decode(&path, &block)?;
        if header.first_lsn != first_lsn {
            let what = format!("the file is named otherwise than its first lsn, {}", header.first_lsn);
            return Err(Error::damaged(&path, 0, what));
        }
        if header.bytes != bytes {
            let what = format!("the file has {bytes} bytes, and was written with {}", header.bytes);
            return Err(Error::damaged(&path, bytes.min(header.bytes), what));
        }
        Ok(Self { file, path, header, buffer: Vec::new(), buffer_at: 0, read_bytes: READ_BYTES_MAX })
    }

    pub fn header(&self) -> Header {
        self.header
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up the buffer and keeps the file.
    pub fn into_file(self) -> Box<dyn File> {
        self.file
    }

    /// Forgets what is in memory, and goes back to small reads.
    pub fn refresh(&mut self) {
        self.buffer.clear();
        self.read_bytes = READ_BYTES_MIN;
    }

    /// Looks at `offset`, a multiple of [`BLOCK`].
    pub fn frame_at(&mut self, offset: u64) -> Result<Found, Error> {
        let room = self.header.bytes.saturating_sub(offset);
        if room < BLOCK as u64 {
            return Ok(Found::End);
        }
        let block = self.bytes(offset, BLOCK as u64)?;
        if is_zero(block) {
            return Ok(Found::End);
        }
        let header = match frame::Header::decode(block) {
            Ok(header) if header.kind == frame::Kind::Fence && self.header.version < FENCED => {
                return Ok(Found::Bad("there is a fence, and the segment is of a format without"));
            }
            Ok(header) if header.padded_bytes() <= room => header,
            Ok(_) => return Ok(Found::Bad("the frame reaches past the end of the file")),
            Err(why) => return Ok(Found::Bad(why)),
        };
        let bytes = self.bytes(offset, header.padded_bytes())?;
        Ok(match header.verify(bytes) {
            None => Found::Bad("the frame's checksum does not hold"),
            Some(_) if !header.padding_is_clean(bytes) => Found::BadPadding,
            Some(crc) => Found::Frame(header, crc),
        })
    }

    /// Looks at everything from `offset`, a multiple of [`BLOCK`], to the end.
    pub fn rest(&mut self, offset: u64) -> Result<Rest, Error> {
        let mut rest = Rest { frame: None, used_to: offset };
        for at in (offset..self.header.bytes).step_by(BLOCK) {
            if is_zero(self.bytes(at, BLOCK as u64)?) {
                continue;
            }
            rest.used_to = at + BLOCK as u64;
            if matches!(self.frame_at(at)?, Found::Frame(..) | Found::BadPadding) {
                rest.frame = Some(at);
                break;
            }
        }
        Ok(rest)
    }

    /// Where the last block ends, from `offset` on, a multiple of [`BLOCK`], that is not empty.
    pub fn used_to(&mut self, offset: u64) -> Result<u64, Error> {
        let mut used_to = offset;
        for at in (offset..self.header.bytes).step_by(BLOCK) {
            if !is_zero(self.bytes(at, BLOCK as u64)?) {
                used_to = at + BLOCK as u64;
            }
        }
        Ok(used_to)
    }

    /// Bytes of the file, from memory if they are there. They must be within the file.
    pub fn bytes(&mut self, offset: u64, length: u64) -> Result<&[u8], Error> {
        let within = self.buffer_at <= offset && offset + length <= self.buffer_at + self.buffer.len() as u64;
        if !within {
            let read = (length as usize).max(self.read_bytes).min((self.header.bytes - offset) as usize);
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
            self.buffer.resize(read, 0);
            self.buffer_at = offset;
            if let Err(error) = read_all(&*self.file, &mut self.buffer, offset) {
                self.buffer.clear();
                return Err(error).at("read", &self.path);
            }
        }
        let start = (offset - self.buffer_at) as usize;
        Ok(&self.buffer[start..start + length as usize])
    }
}

/// Fills `buffer` from `offset` on.
pub(super) fn read_all(file: &dyn File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
}
