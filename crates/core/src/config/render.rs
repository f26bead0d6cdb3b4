//! What is written from the table: the reference, `.env.example` and `config explain`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::features::{DOC, FEATURE};
use super::reader::{environment, find};
use super::trim::trimmed;
use super::{Layers, Origin, Setting, SettingsSchema};

/// A setting as it stands in one process, for `config explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The setting's name.
    pub name: String,
    /// The text that holds, `[secret]` for a secret, `None` when unset.
    pub value: Option<String>,
    /// Where it came from: `flag`, `environment`, `.env file`, `default`, with another name if it came under that.
    pub source: String,
    /// The default in this environment.
    pub default: Option<&'static str>,
    /// What it does.
    pub doc: String,
}

impl SettingsSchema {
    /// Every setting with the value that holds and where it came from. Values are not checked: [`SettingsSchema::load`] is for that.
    pub fn explain(&self, layers: &Layers) -> Vec<Explained> {
        let environment = environment(layers);
        let one = |setting: &Setting| {
            let default = setting.default.of(environment);
            let (value, source) = match find(layers, setting) {
                Ok(Some(found)) if found.name == setting.name => (Some(found.text), found.origin.to_string()),
                Ok(Some(found)) => (Some(found.text), format!("{} ({})", found.origin, found.name)),
                Ok(None) => (default.map(str::to_owned), Origin::Default.to_string()),
                Err((message, _)) => (None, message),
            };
            let value = value.map(|text| if setting.secret { "[secret]".to_owned() } else { text });
            Explained { name: setting.name.to_owned(), value, source, default, doc: setting.doc() }
        };
        self.rows().map(one).chain(switches(layers)).collect()
    }
}

impl SettingsSchema {
    /// The settings that do not have their defaults, with the values that hold; `[secret]` for a secret.
    pub(super) fn given(&self, layers: &Layers) -> BTreeMap<String, String> {
        let all = self.explain(layers).into_iter();
        let given = all.filter(|row| row.value.as_deref() != row.default);
        given.filter_map(|row| Some((row.name, row.value?))).collect()
    }
}

impl SettingsSchema {
    /// The files that secrets were read from, by the names of their settings.
    pub(super) fn secret_files(&self, layers: &Layers) -> BTreeMap<&'static str, PathBuf> {
        let secrets = self.rows().filter(|setting| setting.secret);
        let file = |setting: &Setting| find(layers, setting).ok().flatten().and_then(|found| found.file);
        secrets.filter_map(|setting| Some((setting.name, file(setting)?))).collect()
    }
}

/// The switches of `FEATURE_<NAME>` that are set; of two, the stronger source's.
fn switches(layers: &Layers) -> Vec<Explained> {
    let mut found: Vec<Explained> = Vec::new();
    for source in layers.iter() {
        for name in source.names().into_iter().filter(|name| name.starts_with(FEATURE)) {
            if !found.iter().any(|other| other.name.eq_ignore_ascii_case(&name)) {
                let value = source.get(&name).map(|text| trimmed(&text).to_owned());
                let source = source.origin().to_string();
                found.push(Explained { name, value, source, default: Some("off"), doc: DOC.to_owned() });
            }
        }
    }
    found
}

impl SettingsSchema {
    /// `docs/reference/configuration.md`.
    pub fn render_markdown(&self) -> String {
        let mut page = String::from(
            "# Configuration\n\n\
             <!-- Generated from crates/core/src/config/settings.rs: run the tests with BLESS=1 to write it anew. -->\n\n\
             A setting comes from a flag, the environment, a `.env` file or its default, in this order. An empty value counts as\n\
             unset. White space, line breaks and a byte order mark around a value are dropped; quotes around it are refused, since\n\
             only a shell and a `.env` file take them away. A secret can also be read from a file: `NAME_FILE` holds its path. It\n\
             is read once, and may be a pipe such as `<(…)` or `/dev/stdin`. In the environment, which other programs share, a\n\
             name that only looks like one below is warned of; in a file and among the flags it is an error. A duration is\n\
             `500ms`, `30s`, `15m`, `1h` or `7d`. All problems are reported at once, with exit code 78: `erp-backend config check`.\n\
             What holds, and why: `erp-backend config explain`.\n",
        );
        page.push_str("\n## What differs between environments\n\n");
        page.push_str(&super::profile::render(self));
        for group in self.groups() {
            page.push_str(&format!("\n## {group}\n\n| Setting | Value | Default | Required | Meaning |\n| --- | --- | --- | --- | --- |\n"));
            for setting in self.rows().filter(|setting| setting.group == group) {
                page.push_str(&format!(
                    "| {} | {} | {} | {} | {} |\n",
                    names(setting),
                    setting.expectation(),
                    setting.default.words().unwrap_or_else(|| "–".to_owned()),
                    required(setting).unwrap_or_else(|| "no".to_owned()),
                    setting.doc(),
                ));
            }
        }
        page.push_str(&format!(
            "\n## Features\n\n| Setting | Value | Default | Required | Meaning |\n| --- | --- | --- | --- | --- |\n\
             | `{FEATURE}<NAME>` | on, off or a share such as 25% | off | no | {DOC} |\n"
        ));
        page
    }

    /// `.env.example`: every setting, commented out, with its default. Copied as it is, it changes nothing.
    pub fn render_env_example(&self) -> String {
        let mut page = String::from(
            "# Copy to .env and remove the # before what you want to change. Every line below is the default in development.\n\
             # Generated from crates/core/src/config/settings.rs: run the tests with BLESS=1 to write it anew.\n",
        );
        for group in self.groups() {
            page.push_str(&format!("\n# --- {group} ---\n"));
            for setting in self.rows().filter(|setting| setting.group == group) {
                let mut facts = vec![setting.expectation()];
                facts.extend(required(setting).map(|environments| format!("required in {environments}")));
                let default = setting.default.words().unwrap_or_default();
                page.push('\n');
                for line in setting.doc_lines {
                    page.push_str(&format!("# {}\n", line.trim()));
                }
                page.push_str(&format!(
                    "# Value: {}.\n#{}={}\n",
                    facts.join("; "),
                    setting.name,
                    first_word(&default)
                ));
            }
        }
        page.push_str(&format!(
            "\n# --- Features ---\n\n# {FEATURE}<NAME>, such as {FEATURE}NEW_LIST=25%: on, off, or a share of a hundred tenants, which a hash of\n\
             # the tenant picks. A feature without one is off.\n"
        ));
        page
    }
}

fn names(setting: &Setting) -> String {
    let alias = setting.alias.map(str::to_owned).or_else(|| setting.file_name());
    let alias = alias.map(|alias| format!(" (or `{alias}`)"));
    format!("`{}`{}", setting.name, alias.unwrap_or_default())
}

fn required(setting: &Setting) -> Option<String> {
    let names: Vec<_> = setting.required_in.iter().map(|environment| environment.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The development default of `http in development, else info`.
fn first_word(default: &str) -> &str {
    default.split(' ').next().unwrap_or_default()
}
