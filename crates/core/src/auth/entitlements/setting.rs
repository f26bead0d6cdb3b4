//! Settings that each tenant has for itself: declared once, with the type of their value.

use std::any::Any;
use std::sync::Arc;

use serde_json::Value;

use super::values::SettingValue;
use crate::auth::{Caller, Permission};

/// A setting of a tenant's: a row of [`Module::tenant_settings`](crate::module::Module::tenant_settings).
pub struct TenantSetting<T: SettingValue> {
    name: &'static str,
    default: &'static str,
    about: &'static str,
    changed_by: &'static Permission,
    bounds: SettingBounds,
    keeps_in: Option<KeepsIn<T>>,
    of: std::marker::PhantomData<fn() -> T>,
}

/// Whether somebody who sets a value keeps in himself; else why not, in a sentence.
type KeepsIn<T> = fn(&Caller, &T) -> Result<(), String>;

/// What a value must keep to, beside its type.
#[derive(Debug, Clone, Copy, Default)]
pub struct SettingBounds {
    /// The texts that there are; none: any.
    pub one_of: &'static [&'static str],
    /// The least and the largest number.
    pub range: Option<(i64, i64)>,
}

/// What is declared of a setting.
#[derive(Debug, Clone, Copy)]
pub struct TenantSettingFacts {
    /// `module.word`.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// What its values are, for people.
    pub kind: &'static str,
    /// What it is where the tenant has not set it, as text.
    pub default: &'static str,
    /// Who may change it.
    pub changed_by: &'static Permission,
    /// What its values keep to.
    pub bounds: SettingBounds,
}

/// A value of a setting, as it is used and as it is stored and shown.
#[derive(Clone)]
pub struct ReadSetting {
    /// As it is used.
    pub value: Arc<dyn Any + Send + Sync>,
    /// As it is stored and shown.
    pub shown: Value,
}

/// A setting, whatever its type is.
pub trait AnyTenantSetting: Sync {
    /// What is declared of it.
    fn facts(&self) -> TenantSettingFacts;

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without a subject.
    fn read(&self, json: &Value) -> Result<ReadSetting, String>;

    /// Whether somebody who sets this value keeps in himself.
    ///
    /// # Errors
    /// Why he does not, in a sentence.
    fn keeps_in(&self, caller: &Caller, value: &ReadSetting) -> Result<(), String>;

    /// What it is where the tenant has not set it.
    fn default(&self) -> ReadSetting;

    /// Whether what it is by default can be read at all: the test of the house's tables asks.
    fn is_sound(&self) -> bool;
}

impl<T: SettingValue> TenantSetting<T> {
    /// A setting, its default as text, what it is for, and who may change it.
    pub const fn new(
        name: &'static str,
        default: &'static str,
        about: &'static str,
        changed_by: &'static Permission,
    ) -> Self {
        let bounds = SettingBounds { one_of: &[], range: None };
        Self { name, default, about, changed_by, bounds, keeps_in: None, of: std::marker::PhantomData }
    }

    /// Only these values.
    #[must_use]
    pub const fn one_of(mut self, values: &'static [&'static str]) -> Self {
        self.bounds.one_of = values;
        self
    }

    /// Only numbers from the first to the second.
    #[must_use]
    pub const fn range(mut self, least: i64, largest: i64) -> Self {
        self.bounds.range = Some((least, largest));
        self
    }

    /// Only values by which nobody who sets them shuts himself out: he could not take them back.
    #[must_use]
    pub const fn keeps_in(mut self, check: fn(&Caller, &T) -> Result<(), String>) -> Self {
        self.keeps_in = Some(check);
        self
    }

    /// What it is where the tenant has not set it.
    pub fn declared(&self) -> T {
        T::parse(self.default).unwrap_or_else(|_| T::fallback())
    }
}

impl<T: SettingValue> AnyTenantSetting for TenantSetting<T> {
    fn facts(&self) -> TenantSettingFacts {
        let Self { name, default, about, changed_by, bounds, .. } = *self;
        TenantSettingFacts { name, about, kind: T::KIND, default, changed_by, bounds }
    }

    fn read(&self, json: &Value) -> Result<ReadSetting, String> {
        let value = T::from_json(json)?;
        let shown = value.to_json();
        let SettingBounds { one_of, range } = self.bounds;
        if !one_of.is_empty() && !shown.as_str().is_some_and(|text| one_of.contains(&text)) {
            return Err(format!("is none of {}", one_of.join(", ")));
        }
        if let (Some((least, largest)), Some(number)) = (range, shown.as_i64())
            && !(least..=largest).contains(&number)
        {
            return Err(format!("is not from {least} to {largest}"));
        }
        Ok(ReadSetting { value: Arc::new(value), shown })
    }

    fn keeps_in(&self, caller: &Caller, value: &ReadSetting) -> Result<(), String> {
        match (self.keeps_in, value.value.downcast_ref::<T>()) {
            (Some(check), Some(value)) => check(caller, value),
            _ => Ok(()),
        }
    }

    fn default(&self) -> ReadSetting {
        let value = self.declared();
        let shown = value.to_json();
        ReadSetting { value: Arc::new(value), shown }
    }

    fn is_sound(&self) -> bool {
        T::parse(self.default).is_ok_and(|value| self.read(&value.to_json()).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Role;

    static CHANGE: Permission =
        Permission { name: "a.setting.change", what: "", roles: &[Role::Owner], owners_alone: false };

    #[test]
    fn a_value_keeps_to_its_type_and_its_bounds() {
        static DAYS: TenantSetting<i64> = TenantSetting::new("a.days", "30", "Days.", &CHANGE).range(1, 90);
        static WAY: TenantSetting<String> =
            TenantSetting::new("a.way", "mail", "Way.", &CHANGE).one_of(&["mail", "post"]);
        static ON: TenantSetting<bool> = TenantSetting::new("a.on", "true", "On.", &CHANGE);
        let taken = |setting: &dyn AnyTenantSetting, value: Value| setting.read(&value).is_ok();
        assert!(taken(&DAYS, json!(1)) && taken(&DAYS, json!(90)));
        for wrong in [json!(0), json!(91), json!("30"), json!(1.5), json!(null), json!([])] {
            assert!(!taken(&DAYS, wrong.clone()), "{wrong}");
        }
        assert!(taken(&WAY, json!("post")) && !taken(&WAY, json!("Post")) && !taken(&WAY, json!("fax")));
        assert!(taken(&ON, json!(false)) && !taken(&ON, json!("false")));
        assert_eq!((DAYS.declared(), WAY.declared().as_str(), ON.declared()), (30, "mail", true));
        assert!(DAYS.is_sound() && WAY.is_sound() && ON.is_sound());
        static UNSOUND: TenantSetting<i64> =
            TenantSetting::new("a.days", "91", "Days.", &CHANGE).range(1, 90);
        assert!(!UNSOUND.is_sound());
    }
}
