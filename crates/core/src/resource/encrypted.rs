//! Fields that are ciphertexts in their column: read and written as plain values by the feature, and by nobody who has the
//! database alone.

#![expect(
    clippy::disallowed_types,
    reason = "a statement is written once, from constants that are known to the compiler only"
)]

use std::fmt;
use std::marker::PhantomData;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::{Call, Values};
use crate::crypto::{Keyring, SealFault, Unopened};
use crate::db::{
    FromColumns, IsNull, Row, RowError, RowPlace, RowSealer, RowValues, Several, SqlBuffer, ToColumns, ToSql,
    Type, to_sql_checked,
};
use crate::error::Result;
use crate::shared::{Identifier, Text};
use crate::stream::{Cell, CsvLine};

/// The least that a value of a blind index must be worth to one who guesses.
const LEAST_BITS: u32 = 32;

/// A text that can be encrypted.
pub trait EncryptedText: Sized {
    /// The text.
    fn text(&self) -> &str;

    /// Reads what was encrypted.
    ///
    /// # Errors
    /// What is wrong with it.
    fn of_text(text: &str) -> Result<Self, String>;
}

impl EncryptedText for String {
    fn text(&self) -> &str {
        self
    }

    fn of_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

macro_rules! checked_texts {
    ($($name:ident),+) => {
        $(impl<const MIN: usize, const MAX: usize> EncryptedText for $name<MIN, MAX> {
            fn text(&self) -> &str {
                self.as_str()
            }

            fn of_text(text: &str) -> Result<Self, String> {
                Self::parse(text)
            }
        })+
    };
}
checked_texts!(Text, Identifier);

/// Whether an encrypted field has a blind index.
pub trait BlindIndex: Send + Sync + 'static {
    /// What follows the field's name in the names of its columns.
    const SUFFIXES: &'static [&'static str];
}

/// It has none: nobody finds a row by it.
#[derive(Debug, Clone, Copy)]
pub enum Unindexed {}

/// It has one: rows are found by the exact value ([`Searched`]). `BITS` says what a value is worth to one who guesses, and must be 32
/// at least: from the index of a postcode or of a yes or no, everybody who can add a row would learn the others'.
///
/// ```compile_fail,E0080
/// # use erp_core::resource::{Encrypted, Indexed};
/// # use erp_core::shared::Identifier;
/// erp_core::input! { NewPerson { postcode: Encrypted<Identifier<5, 5>, Indexed<16>> } }
/// let _ = NewPerson::COLUMNS;
/// ```
#[derive(Debug, Clone, Copy)]
pub enum Indexed<const BITS: u32> {}

impl BlindIndex for Unindexed {
    const SUFFIXES: &'static [&'static str] = &[""];
}

impl<const BITS: u32> BlindIndex for Indexed<BITS> {
    const SUFFIXES: &'static [&'static str] = {
        assert!(
            BITS >= LEAST_BITS,
            "a blind index of a value that can be guessed tells it: 32 bits are the least"
        );
        &["", "_index"]
    };
}

/// A value whose column holds a ciphertext, `v2:…`, which opens in its own row and column only. In JSON and CSV it is the value.
///
/// The migration declares the column with `app.encrypted_column`. In a record with an id and in the input that writes it, the field has
/// this type: `iban: Option<Encrypted<Identifier<15, 34>>>`. No list can be sorted by it, and none be narrowed but by a blind index.
pub struct Encrypted<T, I: BlindIndex = Unindexed> {
    state: EncryptedState<T>,
    index: OnceText,
    kind: PhantomData<fn() -> I>,
}

enum EncryptedState<T> {
    /// As a client has sent it, and what is stored, once the row is known.
    Given(T, OnceText),
    /// As it was read.
    Sealed(String),
    /// As it was read and opened.
    Opened(T),
}

/// A parameter whose value is not known until its row is: what would be written before is refused.
#[derive(Debug, Default)]
struct OnceText(OnceLock<String>);

impl OnceText {
    /// Of a value that is encrypted twice, as where a statement is tried again with another id, the last one counts.
    fn set(&self, text: String) -> Result<(), SealFault> {
        self.0.set(text).map_err(|_| SealFault::Form)
    }
}

impl ToSql for OnceText {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut SqlBuffer,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let unsealed = "an encrypted field was not encrypted: give Call `&new.values()`, or call `call.seal(&new, …)` before";
        out.extend_from_slice(self.0.get().ok_or(unsealed)?.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<T, I: BlindIndex> Encrypted<T, I> {
    /// A value that is to be written.
    pub fn new(value: T) -> Self {
        Self::in_state(EncryptedState::Given(value, OnceText::default()))
    }

    /// The value; none of what was read and not opened.
    pub fn get(&self) -> Option<&T> {
        match &self.state {
            EncryptedState::Given(value, _) | EncryptedState::Opened(value) => Some(value),
            EncryptedState::Sealed(_) => None,
        }
    }

    fn in_state(state: EncryptedState<T>) -> Self {
        Self { state, index: OnceText::default(), kind: PhantomData }
    }
}

impl<T: EncryptedText + Send + Sync, I: BlindIndex> FromColumns<Several> for Encrypted<T, I> {
    const SUFFIXES: &'static [&'static str] = &[""];
    const SEALED: bool = true;

    fn from_columns(row: &Row<'_>, field: &str) -> Result<Self, RowError> {
        row.try_get(field).map(|text| Self::in_state(EncryptedState::Sealed(text)))
    }

    fn open(&mut self, ring: &Keyring, place: &RowPlace, field: &'static str) -> Result<(), Unopened> {
        let EncryptedState::Sealed(sealed) = &self.state else { return Ok(()) };
        let unopened = |fault| Unopened { table: place.table, column: field, row: place.row, fault };
        let text = ring.open(&place.column(field), sealed).map_err(unopened)?;
        let text = std::str::from_utf8(&text).map_err(|_| unopened(SealFault::Altered))?;
        // It is ours, and may keep another rule than the field has now.
        let value = T::of_text(text).map_err(|_| unopened(SealFault::Form))?;
        self.state = EncryptedState::Opened(value);
        Ok(())
    }
}

impl<T: EncryptedText + Send + Sync, I: BlindIndex> ToColumns<Several> for Encrypted<T, I> {
    const SUFFIXES: &'static [&'static str] = I::SUFFIXES;
    const SEALED: bool = true;

    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>) {
        values.push(match &self.state {
            EncryptedState::Given(_, sealed) => sealed,
            _ => &self.index, // which nobody has set: what was read is not written
        });
        if I::SUFFIXES.len() > 1 {
            values.push(&self.index);
        }
    }

    fn seal(&self, sealer: &RowSealer<'_>, field: &'static str) -> Result<(), SealFault> {
        let EncryptedState::Given(value, sealed) = &self.state else { return Err(SealFault::Form) };
        let (text, place) = (value.text().as_bytes(), sealer.place.column(field));
        sealed.set(sealer.ring.seal(sealer.rng, &place, text)?)?;
        if I::SUFFIXES.len() > 1 {
            self.index.set(sealer.ring.index([place.table, field], text)?)?;
        }
        Ok(())
    }
}

impl<'de, T: Deserialize<'de>, I: BlindIndex> Deserialize<'de> for Encrypted<T, I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::new)
    }
}

/// What was not opened is no value, and its ciphertext is nobody's business.
impl<T: Serialize, I: BlindIndex> Serialize for Encrypted<T, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().ok_or_else(|| S::Error::custom("an encrypted field was not opened"))?.serialize(serializer)
    }
}

/// It does not print.
impl<T, I: BlindIndex> fmt::Debug for Encrypted<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[encrypted]")
    }
}

impl<T: Cell, I: BlindIndex> Cell for Encrypted<T, I> {
    const NAMES: &'static [&'static str] = T::NAMES;

    fn write(&self, line: &mut CsvLine<'_>) {
        match self.get() {
            Some(value) => value.write(line),
            None => _ = line.text(""),
        }
    }
}

/// As the value's.
impl<T: JsonSchema, I: BlindIndex> JsonSchema for Encrypted<T, I> {
    crate::extract::schema_of!(T);
}

/// A value that rows are looked up by, in the blind index of the filter's field: `$1` is an array of what may stand there, more than
/// one while a rotation is under way. The list says `where "$1::text[] is null or iban_index = any ($1)"`.
pub struct Searched<T> {
    value: T,
    indexes: OnceTexts,
}

#[derive(Debug, Default)]
struct OnceTexts(OnceLock<Vec<String>>);

impl ToSql for OnceTexts {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut SqlBuffer,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.get().ok_or("a searched value has no index yet")?.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Vec<String> as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<T: EncryptedText + Send + Sync> ToColumns<Several> for Searched<T> {
    const SUFFIXES: &'static [&'static str] = &["_index"];
    const SEALED: bool = true;

    fn append<'a>(&'a self, values: &mut Vec<&'a (dyn ToSql + Sync)>) {
        values.push(&self.indexes);
    }

    fn seal(&self, sealer: &RowSealer<'_>, field: &'static str) -> Result<(), SealFault> {
        let indexes = sealer.ring.indexes([sealer.place.table, field], self.value.text().as_bytes());
        self.indexes.0.set(indexes).map_err(|_| SealFault::Form)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Searched<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self { value, indexes: OnceTexts::default() })
    }
}

/// As the value's.
impl<T: JsonSchema> JsonSchema for Searched<T> {
    crate::extract::schema_of!(T);
}

impl Call {
    /// Encrypts the fields of an input for a row of a table, where its statement is not one of `Call`'s: `Call::create` and its like do
    /// it by themselves.
    ///
    /// # Errors
    /// `core.unreadable` where the tenant's key cannot be used, or as the database answers.
    pub async fn seal(&self, new: &impl Values, table: &'static str, row: Uuid) -> Result<()> {
        self.sealing(table, row, |sealer| new.seal(sealer)).await
    }

    pub(super) async fn seal_row(
        &self,
        values: &(impl RowValues + ?Sized),
        table: &'static str,
        row: Uuid,
    ) -> Result<()> {
        match values.sealed() {
            Some(fields) => self.sealing(table, row, |sealer| fields.seal(sealer)).await,
            None => Ok(()),
        }
    }

    pub(super) async fn seal_filter<V: Values>(&self, filter: &V, table: &'static str) -> Result<()> {
        if !V::SEALED {
            return Ok(());
        }
        self.sealing(table, Uuid::nil(), |sealer| filter.seal(sealer)).await
    }

    async fn sealing(
        &self,
        table: &'static str,
        row: Uuid,
        seal: impl FnOnce(&RowSealer<'_>) -> Result<(), SealFault>,
    ) -> Result<()> {
        let keys = &self.app.keys;
        let ring = Box::pin(keys.for_sealing(self.caller.tenant())).await?;
        let sealer = RowSealer { ring: &ring, rng: self.app.rng.as_ref(), place: RowPlace { table, row } };
        seal(&sealer).map_err(|fault| keys.unusable(self.caller.tenant(), fault))
    }
}
