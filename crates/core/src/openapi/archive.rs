//! Files of a ZIP archive that is built in, as they lie there: deflated, which is what gzip carries (RFC 1951, 1952).
//!
//! So a megabyte of script costs 400 KB in the binary and on the wire, and nothing is unpacked here: the chain does it for
//! a client that takes no gzip (`middleware/representation/compression.rs`).

/// An entry of the archive's central directory, and the name behind it.
const ENTRY: &[u8] = b"PK\x01\x02";
const ENTRY_LENGTH: usize = 46;
/// The end of the central directory.
const END: &[u8] = b"PK\x05\x06";
/// What a file's own header takes, without its name and extra field.
const HEADER_LENGTH: usize = 30;
const DEFLATED: u16 = 8;
/// A gzip header: deflate, no flags, no time, unknown system.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A deflated file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed {
    bytes: &'static [u8],
    /// The checksum of what it unpacks to; names the content as well.
    pub(super) crc: u32,
    size: u32,
}

impl Packed {
    /// As the body of an answer with `Content-Encoding: gzip`.
    pub(super) fn gzip(&self) -> Vec<u8> {
        [&GZIP, self.bytes, &self.crc.to_le_bytes(), &self.size.to_le_bytes()].concat()
    }
}

/// The file of `archive` whose path ends in `name`; `None` if there is none, or it is not deflated.
pub(super) fn find(archive: &'static [u8], name: &str) -> Option<Packed> {
    let end = archive.windows(END.len()).rposition(|bytes| bytes == END)?;
    let mut at = u32_at(archive, end + 16)? as usize;
    for _ in 0..u16_at(archive, end + 10)? {
        let entry = archive.get(at..)?;
        entry.starts_with(ENTRY).then_some(())?;
        let length = usize::from(u16_at(entry, 28)?);
        let path = entry.get(ENTRY_LENGTH..ENTRY_LENGTH + length)?;
        if path.ends_with(name.as_bytes()) {
            return unpack(archive, entry);
        }
        at += ENTRY_LENGTH + length + usize::from(u16_at(entry, 30)?) + usize::from(u16_at(entry, 32)?);
    }
    None
}

fn unpack(archive: &'static [u8], entry: &[u8]) -> Option<Packed> {
    (u16_at(entry, 10)? == DEFLATED).then_some(())?;
    let (packed, start) = (u32_at(entry, 20)? as usize, u32_at(entry, 42)? as usize);
    let header = archive.get(start..)?;
    let start = HEADER_LENGTH + usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
    let bytes = header.get(start..start + packed)?;
    Some(Packed { bytes, crc: u32_at(entry, 16)?, size: u32_at(entry, 24)? })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_archive_or_not_in_it_is_not_found() {
        for bytes in
            [b"".as_slice(), b"PK", &[0; 100], b"PK\x05\x06\0\0\0\0\x01\0\x01\0\xff\0\0\0\xff\0\0\0\0\0"]
        {
            assert!(find(bytes, "a").is_none());
        }
        let ui = utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
        assert!(find(ui, "/no-such-file").is_none());
        let script = find(ui, "/dist/swagger-ui-bundle.js").unwrap();
        assert!(script.size > 1_000_000 && script.gzip().len() < 500_000);
    }
}
