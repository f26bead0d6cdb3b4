//! As much of CBOR (RFC 8949) as authenticators write: lengths are said beforehand, and what is nested is not deep.

use std::collections::BTreeMap;

/// So deep is what authenticators write, and some more.
const DEEPEST: u8 = 8;

/// A value, as far as anybody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CborValue<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    Other,
}

/// What is left to be read. Whatever is not well-formed is `None`.
pub(super) struct CborReader<'a>(&'a [u8]);

impl<'a> CborReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }

    /// A map by texts; a text that comes twice makes it none.
    pub(super) fn text_map(&mut self) -> Option<BTreeMap<&'a str, CborValue<'a>>> {
        self.map(|reader| match reader.head()? {
            (3, length) => std::str::from_utf8(reader.take(length)?).ok(),
            _ => None,
        })
    }

    /// A map by integers; one that comes twice makes it none.
    pub(super) fn integer_map(&mut self) -> Option<BTreeMap<i64, CborValue<'a>>> {
        self.map(|reader| match reader.value(0)? {
            CborValue::Integer(number) => Some(number),
            _ => None,
        })
    }

    /// Passes over one value.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.value(DEEPEST).map(drop)
    }

    fn map<K: Ord>(&mut self, key: impl Fn(&mut Self) -> Option<K>) -> Option<BTreeMap<K, CborValue<'a>>> {
        let (5, length) = self.head()? else { return None };
        let mut map = BTreeMap::new();
        for _ in 0..length {
            let key = key(self)?;
            if map.insert(key, self.value(DEEPEST)?).is_some() {
                return None;
            }
        }
        Some(map)
    }

    fn value(&mut self, depth: u8) -> Option<CborValue<'a>> {
        let (major, argument) = self.head()?;
        let nested = match major {
            0 => return i64::try_from(argument).ok().map(CborValue::Integer),
            1 => return i64::try_from(argument).ok().map(|number| CborValue::Integer(-1 - number)),
            2 => return self.take(argument).map(CborValue::Bytes),
            3 => return self.take(argument).map(|_| CborValue::Other),
            4 => argument,
            5 => argument.checked_mul(2)?,
            6 => 1,
            _ => 0,
        };
        for _ in 0..nested {
            self.value(depth.checked_sub(1)?)?;
        }
        Some(CborValue::Other)
    }

    /// The kind of a value, and its number or length.
    fn head(&mut self) -> Option<(u8, u64)> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        let argument = match first & 0x1f {
            small @ 0..=23 => u64::from(small),
            wide @ 24..=27 => {
                let bytes = self.take(1 << (wide - 24))?;
                bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            _ => return None,
        };
        Some((first >> 5, argument))
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of RFC 8949, appendix A.
    #[test]
    fn numbers_bytes_and_maps_are_read_as_the_standard_says() {
        let integer = |bytes: &[u8]| match CborReader::new(bytes).value(0) {
            Some(CborValue::Integer(number)) => Some(number),
            _ => None,
        };
        for (bytes, number) in [
            (&[0x00][..], 0),
            (&[0x17], 23),
            (&[0x18, 0x18], 24),
            (&[0x19, 0x03, 0xe8], 1000),
            (&[0x1a, 0x00, 0x0f, 0x42, 0x40], 1_000_000),
            (&[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00], 1_000_000_000_000),
            (&[0x20], -1),
            (&[0x38, 0x63], -100),
            (&[0x39, 0x03, 0xe7], -1000),
        ] {
            assert_eq!(integer(bytes), Some(number));
        }
        assert_eq!(integer(&[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None, "too large");
        assert_eq!(CborReader::new(&[0x44, 1, 2, 3, 4]).value(0), Some(CborValue::Bytes(&[1, 2, 3, 4])));
        let map = CborReader::new(&[0xa2, 0x01, 0x02, 0x20, 0x41, 0x07]).integer_map().unwrap();
        assert_eq!((map[&1], map[&-1]), (CborValue::Integer(2), CborValue::Bytes(&[7])));
        assert!(CborReader::new(&[0xa2, 0x01, 0x02, 0x01, 0x03]).integer_map().is_none(), "a key twice");
        for incomplete in [&[][..], &[0x18], &[0x44, 1], &[0x5f], &[0x1c], &[0x81], &[0xa1, 0x01]] {
            assert!(CborReader::new(incomplete).skip().is_none(), "{incomplete:x?}");
        }
        let nested = |depth: usize| CborReader::new(&[vec![0x81; depth], vec![0x00]].concat()).skip();
        assert!(nested(8).is_some() && nested(9).is_none());
    }
}
