use schemars::JsonSchema;
use serde::Serialize;

use crate::shared::{Id, IdKind, Version};
use crate::stream::Record;

/// What a table keeps: a record, or a line of one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not kept in a table",
    note = "declare it with `record!(… in \"table\" {{ … }})`"
)]
pub trait InTable: Record + JsonSchema {
    /// Its table, without the schema.
    const TABLE: &'static str;
    /// Its fields, and whether each is encrypted.
    const FIELDS: &'static [(&'static str, bool)];
}

/// What has a version, and so an ETag: a record, or one with its lines.
pub trait Versioned: Serialize + JsonSchema + Send {
    /// The tables that it is kept in.
    const TABLES: &'static [&'static str];

    /// How often it has been changed, and one more.
    fn version(&self) -> Version;
}

impl<R: Resource> Versioned for R {
    const TABLES: &'static [&'static str] = &[R::TABLE];

    fn version(&self) -> Version {
        Resource::version(self)
    }
}

/// A record that has an id and a version, and so a path, an ETag and a place in a list. [`record!`](crate::record) makes
/// it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a resource",
    note = "declare it with `record!(… in \"table\" as \"word\" {{ id: Id<Self>, …, version: Version }})`"
)]
pub trait Resource: InTable + IdKind {
    /// The statement that finds a row by its id, `$1`, whatever its version.
    const EXISTS: &'static str;

    /// Its id.
    fn id(&self) -> Id<Self>;

    /// How often it has been changed, and one more.
    fn version(&self) -> Version;
}

/// A record that has an id, and so a place in a list: every [`Resource`], and what has an id but no version.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no place in a list",
    note = "declare it with `record!(… in \"table\" as \"word\" {{ id: Id<Self>, …, version: Version }})`"
)]
pub trait Listable: InTable {
    /// Whose ids it has.
    type Kind: IdKind;

    /// Its id.
    fn id(&self) -> Id<Self::Kind>;
}

impl<R: Resource> Listable for R {
    type Kind = R;

    fn id(&self) -> Id<R> {
        Resource::id(self)
    }
}

/// Declares a record, what is stored and answered: `record! { Item in "items" as "item" { id: Id<Item>, …, version: Version } }`.
///
/// Makes the struct with its JSON (camelCase) and its schema, reads it from rows, writes it as a line of NDJSON and CSV,
/// and is its [`Resource`]: it must have `id: Id<…>` and `version: Version`. `Item::COLUMNS` is the list of its columns
/// for [`sql!`](crate::sql). Attributes of serde and schemars may stand before fields. The word is that of its ids and of
/// the audit log. A field of the type [`Encrypted`](crate::resource::Encrypted) is a ciphertext in its column.
///
/// A line of a document is declared without a word, since it has no id and no version of its own:
/// `record! { Line in "order_lines" { position: i32, … } }`.
#[macro_export]
macro_rules! record {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident in $table:literal as $word:literal {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $crate::record! {
            @struct
            $(#[$meta])*
            $vis $name in $table { $($(#[$field_meta])* $field_vis $field: $type),+ }
        }

        $crate::from_row!(@opened $name in $table { $($field),+ });

        impl $crate::shared::IdKind for $name {
            const NAME: &'static str = $word;
        }

        impl $crate::resource::Resource for $name {
            const EXISTS: &'static str = concat!("select from ", $table, " where id = $1");

            fn id(&self) -> $crate::shared::Id<Self> {
                self.id
            }

            fn version(&self) -> $crate::shared::Version {
                self.version
            }
        }
    };
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident in $table:literal {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $crate::record! {
            @struct
            $(#[$meta])*
            $vis $name in $table { $($(#[$field_meta])* $field_vis $field: $type),+ }
        }

        $crate::from_row!($name { $($field),+ });
    };
    (
        @struct
        $(#[$meta:meta])*
        $vis:vis $name:ident in $table:literal {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, ::serde::Serialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type),+
        }

        impl $name {
            /// Its columns, for `sql!`.
            #[allow(dead_code)]
            $vis const COLUMNS: &'static str =
                $crate::const_text!($crate::resource::columns, &[
                    $((stringify!($field), <$type as $crate::db::FromColumns<_>>::SUFFIXES)),+
                ]);
        }

        impl $crate::stream::Record for $name {
            fn write_names(line: &mut $crate::stream::CsvLine<'_>) {
                $(<$type as $crate::stream::Cell>::write_names(
                    $crate::const_text!($crate::resource::camel_case, stringify!($field)),
                    line,
                );)+
            }

            fn write(&self, line: &mut $crate::stream::CsvLine<'_>) {
                $($crate::stream::Cell::write(&self.$field, line);)+
            }
        }

        impl $crate::resource::InTable for $name {
            const TABLE: &'static str = $table;
            const FIELDS: &'static [(&'static str, bool)] =
                &[$((stringify!($field), <$type as $crate::db::FromColumns<_>>::SEALED)),+];
        }
    };
}
