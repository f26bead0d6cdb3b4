use crate::crypto::SealFault;
use crate::db::{RowSealer, ToSql};

/// What a body or a filter brings to a statement. [`input!`](crate::input) makes it.
pub trait Values {
    /// How many parameters its values take.
    const COUNT: usize;
    /// The condition that each column of a field's name is its value, where that is given: `(status = $1 or $1 is null)`.
    const EQUAL: &'static str;

    /// Whether some of its fields are encrypted, or looked up in a blind index.
    const SEALED: bool;

    /// Its values, in the order of its fields.
    fn values(&self) -> Vec<&(dyn ToSql + Sync)>;

    /// Encrypts what is encrypted.
    ///
    /// # Errors
    /// Where the tenant has no key that encrypts.
    fn seal(&self, sealer: &RowSealer<'_>) -> Result<(), SealFault>;
}

/// Declares what a request sends, a body or a filter: `input! { NewItem { sku: Identifier<1, 64>, … } }`.
///
/// Makes the struct, which is read from camelCase and refuses unknown fields, with its schema. An `Option` may be left
/// out, and so may a field with `#[serde(default)]`. For [`sql!`](crate::sql) it has the lists of its columns:
///
/// - `NewItem::COLUMNS`: `sku, name`
/// - `NewItem::VALUES`: `$2, $3`, for INSERT, where `$1` is the id
/// - `NewItem::SET`: `sku = $3, name = $4`, for UPDATE, where `$1` and `$2` are those of [`THIS`](crate::resource::THIS)
/// - `NewItem::UPSERT`: `update set sku = excluded.sku, … where (i.sku, …) is distinct from (excluded.sku, …)`, for INSERT into
///   a table `as i`, behind `on conflict (tenant_id, sku) do`
///
/// and `new.values()` are the values of these parameters. `Money` and `Days` take two of each.
///
/// What is no column stands last, behind a semicolon: the lines of a document, say.
/// `NewOrder { supplier_id: Id<Supplier>; lines: List<NewLine, 1, 200> }`. One statement takes all of them, an array for
/// each column: `unnest($4::uuid[], $5::bigint[])` (`Call::create_with_lines`).
#[macro_export]
macro_rules! input {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),*
            $(; $($(#[$other_meta:meta])* $other_vis:vis $other:ident: $other_type:ty),+)? $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type,)*
            $($($(#[$other_meta])* $other_vis $other: $other_type),+)?
        }

        #[allow(dead_code)]
        impl $name {
            const FIELDS: &'static [$crate::resource::Field<'static>] =
                &[$((stringify!($field), <$type as $crate::db::ToColumns<_>>::SUFFIXES)),*];
            /// Its columns, for `sql!`.
            $vis const COLUMNS: &'static str = $crate::const_text!($crate::resource::columns, $name::FIELDS);
            /// The places of its values in INSERT.
            $vis const VALUES: &'static str =
                $crate::const_text!($crate::resource::places, $crate::resource::count($name::FIELDS), 2);
            /// Its assignments in UPDATE.
            $vis const SET: &'static str =
                $crate::const_text!($crate::resource::assignments, $name::FIELDS, 3, false);

            /// The end of an INSERT that changes a record which is there, where it differs: `update set sku = excluded.sku
            /// where i.sku is distinct from excluded.sku`. The table is called `i`.
            $vis const UPSERT: &'static str = {
                assert!(
                    !<$name as $crate::resource::Values>::SEALED,
                    "an encrypted field belongs to one row, and an upsert does not know which: let it be written by its id"
                );
                $crate::const_text!($crate::resource::upsert, $name::FIELDS)
            };

            /// The values of the statement's parameters, in the order of the fields.
            $vis fn values(&self) -> $crate::db::ColumnValues<'_> {
                let sealed = <$name as $crate::resource::Values>::SEALED;
                let values = $crate::resource::Values::values(self);
                $crate::db::ColumnValues::new(values, sealed.then_some(self as &dyn $crate::db::SealFields))
            }
        }

        impl $crate::resource::Values for $name {
            const COUNT: usize = $crate::resource::count($name::FIELDS);
            const EQUAL: &'static str = $crate::const_text!($crate::resource::equalities, $name::FIELDS);
            const SEALED: bool = false $(|| <$type as $crate::db::ToColumns<_>>::SEALED)*;

            fn values(&self) -> Vec<&(dyn $crate::db::ToSql + Sync)> {
                #[allow(unused_mut)]
                let mut values = Vec::with_capacity($crate::resource::count($name::FIELDS));
                $($crate::db::ToColumns::append(&self.$field, &mut values);)*
                values
            }

            fn seal(&self, _sealer: &$crate::db::RowSealer<'_>) -> Result<(), $crate::crypto::SealFault> {
                $($crate::db::ToColumns::seal(&self.$field, _sealer, stringify!($field))?;)*
                Ok(())
            }
        }

        impl $crate::db::SealFields for $name {
            fn seal(&self, sealer: &$crate::db::RowSealer<'_>) -> Result<(), $crate::crypto::SealFault> {
                $crate::resource::Values::seal(self, sealer)
            }
        }
    };
}

/// Declares a merge patch (RFC 7396): `patch! { ItemPatch { sku: Identifier<1, 64>, description: Option<Text<0, 2000>> } }`.
///
/// As [`input!`](crate::input), but each field is a [`Patch`](crate::extract::Patch) of what is written here: absent keeps
/// what is there, and `null` clears an `Option`. `ItemPatch::SET` assigns only what is given.
#[macro_export]
macro_rules! patch {
    (
        $(#[$meta:meta])*
        $vis:vis $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        $vis struct $name {
            $($(#[$field_meta])* #[serde(default)] $field_vis $field: $crate::extract::Patch<$type>),+
        }

        #[allow(dead_code)]
        impl $name {
            /// Its assignments in UPDATE.
            $vis const SET: &'static str =
                $crate::const_text!($crate::resource::assignments, $name::FIELDS, 3, true);
            const FIELDS: &'static [$crate::resource::Field<'static>] =
                &[$((stringify!($field), <$type as $crate::db::ToColumns<_>>::SUFFIXES)),+];

            /// The values of the statement's parameters, in the order of the fields: of each column whether it is given,
            /// and what.
            $vis fn values(&self) -> $crate::db::ColumnValues<'_> {
                let sealed = false $(|| <$type as $crate::db::ToColumns<_>>::SEALED)+;
                let mut values = Vec::with_capacity(2 * $crate::resource::count($name::FIELDS));
                $(self.$field.append(&mut values);)+
                $crate::db::ColumnValues::new(values, sealed.then_some(self as &dyn $crate::db::SealFields))
            }
        }

        impl $crate::db::SealFields for $name {
            fn seal(&self, sealer: &$crate::db::RowSealer<'_>) -> Result<(), $crate::crypto::SealFault> {
                $(self.$field.seal(sealer, stringify!($field))?;)+
                Ok(())
            }
        }
    };
}
