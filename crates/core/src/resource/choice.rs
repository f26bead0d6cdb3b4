/// Declares a choice of words: an enum that is text in JSON, in the database and in an export.
///
/// `choice! { pub Status { Draft = "draft", Open = "open" } }`. The first is the default. The column is `text` with a check
/// of the same words: `check (status in ('draft', 'open'))`.
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident { $($(#[$word_meta:meta])* $variant:ident = $word:literal),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[schemars(inline)]
        $vis enum $name { $($(#[$word_meta])* #[serde(rename = $word)] $variant),+ }

        #[allow(dead_code)]
        impl $name {
            /// All of them, in the order of their declaration.
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word, as it is stored and shown.
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        /// The first of them.
        impl Default for $name {
            fn default() -> Self {
                Self::ALL[0]
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::stream::Cell for $name {
            fn write(&self, line: &mut $crate::stream::CsvLine<'_>) {
                line.value(self);
            }
        }

        impl $crate::db::ToSql for $name {
            fn to_sql(
                &self,
                ty: &$crate::db::Type,
                out: &mut $crate::db::SqlBuffer,
            ) -> ::std::result::Result<$crate::db::IsNull, Box<dyn ::std::error::Error + Sync + Send>> {
                $crate::db::ToSql::to_sql(&self.as_str(), ty, out)
            }

            fn accepts(ty: &$crate::db::Type) -> bool {
                <&str as $crate::db::ToSql>::accepts(ty)
            }

            $crate::db::to_sql_checked!();
        }

        impl<'a> $crate::db::FromSql<'a> for $name {
            fn from_sql(
                ty: &$crate::db::Type,
                raw: &'a [u8],
            ) -> ::std::result::Result<Self, Box<dyn ::std::error::Error + Sync + Send>> {
                let text = <&str as $crate::db::FromSql<'a>>::from_sql(ty, raw)?;
                let found = Self::ALL.iter().find(|known| known.as_str() == text);
                found.copied().ok_or_else(|| format!("'{text}' is not a {}", stringify!($name)).into())
            }

            fn accepts(ty: &$crate::db::Type) -> bool {
                <&str as $crate::db::FromSql<'a>>::accepts(ty)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::db::{FromSql as _, SqlBuffer, ToSql as _, Type};

    choice! {
        /// States.
        Status { Draft = "draft", Open = "open" }
    }

    #[test]
    fn a_choice_is_its_word_everywhere() {
        assert_eq!((Status::default(), Status::ALL.len()), (Status::Draft, 2));
        assert_eq!(serde_json::to_string(&Status::Open).unwrap(), "\"open\"");
        assert!(serde_json::from_str::<Status>("\"Open\"").is_err());
        let mut out = SqlBuffer::new();
        Status::Open.to_sql(&Type::TEXT, &mut out).unwrap();
        assert_eq!((&out[..], Status::from_sql(&Type::TEXT, &out).unwrap()), (&b"open"[..], Status::Open));
        assert!(Status::from_sql(&Type::TEXT, b"lost").is_err());
    }
}
