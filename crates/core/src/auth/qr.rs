//! A QR code as a picture: a PNG of one bit a pixel, which is small enough to be written by hand.

use std::io::Write as _;

use fast_qr::{ECL, QRBuilder};
use flate2::Compression;
use flate2::write::ZlibEncoder;

use crate::error::{Error, Result};

/// Pixels a module.
const SCALE: usize = 6;
/// Modules of white around it (ISO/IEC 18004, 6.3.8).
const QUIET: usize = 4;

/// The PNG of the QR code of `text`.
///
/// # Errors
/// `core.internal` for a text that is too long for one: more than 2,331 bytes.
pub fn qr_png(text: &str) -> Result<Vec<u8>> {
    let code =
        QRBuilder::new(text).ecl(ECL::M).build().map_err(|error| Error::internal(format!("{error:?}")))?;
    let side = (code.size + 2 * QUIET) * SCALE;
    let mut pixels = Vec::with_capacity(side * (side / 8 + 2));
    for y in 0..side {
        pixels.push(0); // the row is not filtered
        for eight in 0..side.div_ceil(8) {
            let bit = |x: usize| {
                let (row, column) = ((y / SCALE).wrapping_sub(QUIET), (x / SCALE).wrapping_sub(QUIET));
                let dark = row < code.size && column < code.size && code[row][column].value();
                u8::from(!dark)
            };
            pixels.push((0..8).fold(0, |byte, at| byte << 1 | bit(eight * 8 + at)));
        }
    }
    png(side, &pixels)
}

/// A square picture in two colours (RFC 2083).
fn png(side: usize, pixels: &[u8]) -> Result<Vec<u8>> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(pixels).map_err(Error::internal)?;
    let packed = packed.finish().map_err(Error::internal)?;
    let side = u32::try_from(side).map_err(Error::internal)?.to_be_bytes();
    // One bit of grey, packed and filtered as there is but one way, not interlaced.
    let head = [side.as_slice(), &side, &[1, 0, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", head.as_slice()), (b"IDAT", &packed), (b"IEND", &[])] {
        let length = u32::try_from(data.len()).map_err(Error::internal)?;
        file.extend(length.to_be_bytes());
        let chunk = [kind, data].concat();
        file.extend(&chunk);
        file.extend(crc32fast::hash(&chunk).to_be_bytes());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_square_of_two_colours() {
        let file = qr_png("otpauth://totp/ERP:ada?secret=GEZDGNBV").unwrap();
        assert!(file.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"));
        assert_eq!(file[16..20], file[20..24]);
        assert_eq!(file[24..29], [1, 0, 0, 0, 0]);
        assert!(file.ends_with(b"IEND\xae\x42\x60\x82") && file.len() < 2000, "{}", file.len());
        assert!(qr_png(&"x".repeat(3000)).is_err());
    }
}
