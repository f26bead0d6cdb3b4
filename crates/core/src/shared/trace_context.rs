use std::fmt;

use super::hex::put_hex;

/// A request's place in a trace that goes through several systems (W3C Trace Context, level 1).
///
/// It prints as a `traceparent`: send that along with outgoing calls.
///
/// ```
/// use erp_core::shared::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// assert_eq!(TraceContext::parse(text.as_bytes()).unwrap().to_string(), text);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The whole trace; not zero.
    pub trace_id: u128,
    /// This request's part of it; not zero.
    pub span_id: u64,
    /// Whether the system that began the trace records it.
    pub sampled: bool,
}

impl TraceContext {
    /// How long its text is.
    const LENGTH: usize = 55;

    /// Reads a `traceparent`. A later version than 00 may say more behind what is known; ff is none, nor are ids of
    /// zeros or in capitals.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, more) = text.split_at_checked(Self::LENGTH)?;
        let dashes = [2, 35, 52].iter().all(|at| known.get(*at) == Some(&b'-'));
        let digits = known.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if !dashes || !digits {
            return None;
        }
        let known = std::str::from_utf8(known).ok()?;
        let version = u8::from_str_radix(known.get(..2)?, 16).ok()?;
        if version == 0xff
            || (version == 0 && !more.is_empty())
            || more.first().is_some_and(|byte| *byte != b'-')
        {
            return None;
        }
        let trace_id = u128::from_str_radix(known.get(3..35)?, 16).ok()?;
        let span_id = u64::from_str_radix(known.get(36..52)?, 16).ok()?;
        let flags = u8::from_str_radix(known.get(53..)?, 16).ok()?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// Its text, made without `fmt`, since every answer has it.
    pub(crate) fn text(&self) -> [u8; Self::LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&self.trace_id.to_be_bytes(), &mut text[3..35]);
        put_hex(&self.span_id.to_be_bytes(), &mut text[36..52]);
        put_hex(&[u8::from(self.sampled)], &mut text[53..]);
        text
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[test]
    fn o_03_a_traceparent_is_read_strictly() {
        let parse = |text: &str| TraceContext::parse(text.as_bytes());
        let read = parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(
            (read.trace_id, read.span_id),
            (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331)
        );
        assert!(read.sampled && !parse(&format!("00-{TRACE}-{SPAN}-02")).unwrap().sampled);
        for later in ["cc-T-S-01", "cc-T-S-01-what-comes", "01-T-S-00"] {
            let later = later.replace('T', TRACE).replace('S', SPAN);
            assert!(parse(&later).is_some_and(|read| read.to_string().starts_with("00-")), "{later}");
        }
        for bad in [
            "",
            "00",
            "00-T-S",
            "00-T-S-",
            "00-T-S-1",
            "00-T-S-01-more",
            "00-T-S-011",
            "cc-T-S-01more",
            "ff-T-S-01",
            "0-T-S-01",
            "FF-T-S-01",
            "00-T-0000000000000000-01",
            "00-00000000000000000000000000000000-S-01",
            "00_T_S_01",
            "00-T-S-0x",
            "00-0AF7651916CD43DD8448EB211C80319C-S-01",
            "00--af7651916cd43dd8448eb211c80319c-S-01",
            "00-+af7651916cd43dd8448eb211c80319c-S-01",
            " 00-T-S-01",
            "00-T-S-01 ",
        ] {
            let text = bad.replace('T', TRACE).replace('S', SPAN);
            assert_eq!(parse(&text), None, "{text}");
        }
        assert_eq!(TraceContext::parse(&[0xff; 55]), None);
    }
}
