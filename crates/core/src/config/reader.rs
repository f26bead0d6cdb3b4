//! Reads one row after the other and gathers what is wrong.

use std::path::PathBuf;

use super::features::FEATURE;
use super::mail::{is_email, is_host};
use super::postgres_url::{PostgresUrl, UrlFault, refuse_cuts};
use super::secrets::{encryption_key_fault, password_weakness, redis_password, weakness};
use super::section::{Section, SettingsSchema};
use super::service_links;
use super::source::{Layers, Origin, Source};
use super::trim::{fault, trimmed};
use super::value::Value;
use super::{Check, Config, Environment, Features, Problems, Profile, SETTINGS, Setting, SettingProblem};

/// A row's text and where it came from.
pub(super) struct FoundText {
    pub(super) text: String,
    pub(super) origin: Origin,
    /// The name it was found under, such as `NODE_ENV` or `JWT_SECRET_FILE`.
    pub(super) name: String,
    /// The file that it was read from.
    pub(super) file: Option<PathBuf>,
}

/// Reads the rows of one schema from the layers: what [`settings!`](crate::settings) calls.
pub struct Reader<'a> {
    layers: &'a Layers,
    schema: &'a SettingsSchema,
    environment: Environment,
    problems: Problems,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, schema: &'a SettingsSchema) -> Self {
        Self { layers, schema, environment: environment(layers), problems: Problems::default() }
    }

    /// The value of one row; `None` when the reason is noted as a problem.
    pub fn value<T: Value>(&mut self, setting: &Setting) -> Option<T> {
        let found = match find(self.layers, setting) {
            Ok(found) => found,
            Err((message, fix)) => return self.refuse(setting, message, fix),
        };
        let Some(found) = found else {
            return self.unset(setting);
        };
        if let Err((message, fix)) = check(setting, self.environment, &found.text) {
            return self.refuse(setting, message, fix);
        }
        let value = T::parse(setting, &found.text);
        if value.is_none() {
            let fix = format!("{} takes: {}", found.name, setting.expectation());
            self.problems.add(setting.name, format!("{} is not accepted", shown(setting, &found.text)), fix);
        }
        value
    }

    fn unset<T: Value>(&mut self, setting: &Setting) -> Option<T> {
        if let Some(text) = setting.default.of(self.environment) {
            return T::parse(setting, text);
        }
        let required = setting.required_in.contains(&self.environment);
        if let (false, Some(unset)) = (required, T::unset()) {
            return Some(unset);
        }
        let or_file =
            setting.file_name().map(|name| format!(", or {name} to the path of a file that holds it"));
        let fix = format!("Set {}{}", setting.name, or_file.unwrap_or_default());
        self.refuse(setting, format!("is required in {}", self.environment), fix)
    }

    fn refuse<T>(&mut self, setting: &Setting, message: String, fix: String) -> Option<T> {
        self.problems.add(setting.name, message, fix);
        None
    }

    /// The switches of `FEATURE_<NAME>`; a stronger source's word counts.
    pub(super) fn features(&mut self) -> Features {
        let mut features = Features::default();
        for source in self.layers.iter() {
            for (name, text) in
                source.names().into_iter().filter_map(|name| source.get(&name).map(|text| (name, text)))
            {
                let Some(feature) = name.strip_prefix(FEATURE) else { continue };
                let text = trimmed(&text);
                if service_links::is_of_a_link(source.origin(), &name, text) || features.add(feature, text) {
                    continue;
                }
                let refused = format!("\"{}\" is not accepted", super::value::printable(text));
                let message = fault(text).map_or(refused, |(why, _)| why.to_owned());
                let fix = "Set it to on, off or a share such as 25%";
                self.problems.add(super::value::printable(&name), message, fix);
            }
        }
        features
    }

    /// Notes what the sources themselves have to say, such as a line of a file that cannot be understood.
    pub(super) fn collect(&mut self) {
        for problem in self.layers.problems() {
            self.problems.add(&*problem.name, &*problem.message, &*problem.fix);
        }
        self.problems.warnings.extend(self.layers.iter().flat_map(Source::warnings).cloned());
    }

    /// Notes names that two rows claim: each would read the other's value.
    pub(super) fn refuse_twice_declared(&mut self) {
        for (name, first, second) in self.schema.twice_declared() {
            let message = format!("is declared twice: by {first} and by {second}");
            self.problems.add(
                name,
                message,
                "Rename one of them in the code, and begin it with its module's name",
            );
        }
    }

    /// Notes names that no setting has: any in a `.env` file or among the flags is a problem. The environment is shared
    /// with other programs: near misses there are warned of.
    pub(super) fn refuse_unknown(&mut self) {
        let known = self.known_names();
        for source in self.layers.iter() {
            for name in
                source.names().into_iter().filter(|name| !known.contains(name) && !name.starts_with(FEATURE))
            {
                let near = nearest(&known, trimmed(&name));
                if source.origin() == Origin::Environment {
                    self.warn_of_near_miss(source, &name, near);
                    continue;
                }
                let fix = match near {
                    Some(near) => format!("Did you mean {near}?"),
                    None => "Remove it".to_owned(),
                };
                let message = format!("is no setting of ours (found in: {})", source.origin());
                self.problems.add(super::value::printable(&name), message, fix);
            }
        }
    }

    fn warn_of_near_miss(&mut self, source: &dyn Source, name: &str, near: Option<&str>) {
        let value = source.get(name).unwrap_or_default();
        if let Some(near) = near
            && !service_links::is_of_a_link(Origin::Environment, name, &value)
        {
            let name = super::value::printable(name);
            let warning =
                format!("{name} is no setting of ours (found in: environment). Did you mean {near}?");
            self.problems.warnings.push(warning);
        }
    }

    /// Warns of files that hold a secret and that every account of this machine may write to.
    pub(super) fn notice_open_files(&mut self) {
        for path in self.layers.secret_files.open_to_all() {
            self.problems.warnings.push(format!(
                "{path} holds a secret, and everybody on this machine may write to it: chmod 600 {path}"
            ));
        }
    }

    /// Warns of links of Kubernetes that stand where settings would.
    pub(super) fn notice_service_links(&mut self) {
        let known = self.known_names();
        for source in self.layers.iter() {
            let ours = |name: &String| known.contains(name) || name.starts_with(FEATURE);
            for name in source.names().into_iter().filter(ours) {
                if service_links::is_link(source.origin(), &name, &source.get(&name).unwrap_or_default()) {
                    self.problems.warnings.push(service_links::warning(&name));
                }
            }
        }
    }

    /// Notes what is wrong with the settings taken together.
    pub(super) fn compare<'s>(&mut self, sections: impl Iterator<Item = &'s Section>) {
        for section in sections {
            let halves = section.rows.iter().flat_map(|row| self.missing_halves(row));
            for problem in (section.rules)(self).into_iter().chain(halves).collect::<Vec<_>>() {
                self.problems.push(problem);
            }
        }
    }

    /// What is not set although `row` is, which makes no sense without it.
    fn missing_halves(&self, row: &Setting) -> Vec<SettingProblem> {
        let missing = row.along_with.iter().filter(|name| self.is_set(row.name) && !self.is_set(name));
        let problem = |name: &&str| {
            let message = format!("is not set, and {} is", row.name);
            SettingProblem { name: (*name).to_owned(), message, fix: "Set both or neither".to_owned() }
        };
        missing.map(problem).collect()
    }

    /// Whether a value that can be read, or a default, stands for the setting.
    pub fn is_set(&self, name: &str) -> bool {
        self.glance::<String>(name).is_some()
    }

    /// A row's value, or its default while it is wrong, which is noted elsewhere.
    pub fn glance<T: Value>(&self, name: &str) -> Option<T> {
        let setting = self.schema.rows().find(|setting| setting.name == name)?;
        let found = find(self.layers, setting).ok().flatten();
        let value = found.and_then(|found| T::parse(setting, &found.text));
        value.or_else(|| T::parse(setting, setting.default.of(self.environment)?))
    }

    fn known_names(&self) -> Vec<String> {
        self.schema.rows().flat_map(Setting::names).collect()
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn finish(self, config: Option<Config>) -> Result<Config, Problems> {
        match config {
            Some(config) if self.problems.is_empty() => {
                Ok(Config { noticed: self.problems.warnings, ..config })
            }
            _ => Err(self.problems),
        }
    }
}

/// What `APP_ENV` says; development while it is wrong, which is a problem of its own.
pub(super) fn environment(layers: &Layers) -> Environment {
    let row = SETTINGS.iter().find(|setting| setting.name == "APP_ENV");
    let found = row.and_then(|row| find(layers, row).ok().flatten());
    found.and_then(|found| found.text.parse().ok()).unwrap_or(Environment::Development)
}

type WhyAndFix = (String, String);

/// The strongest layer's text for `setting`, under its name, its alias or, for a secret, `NAME_FILE`.
///
/// An empty text counts as unset, and what stands around it does not count at all: see [`trimmed`].
pub(super) fn find(layers: &Layers, setting: &Setting) -> Result<Option<FoundText>, WhyAndFix> {
    for source in layers.iter() {
        let get = |name: &str| {
            let text = source.get(name).map(|text| trimmed(&text).to_owned());
            text.filter(|text| !text.is_empty() && !service_links::is_link(source.origin(), name, text))
        };
        let plain = get(setting.name);
        let other_name = setting.alias.map(str::to_owned).or_else(|| setting.file_name());
        let other = other_name.and_then(|name| get(&name).map(|text| (name, text)));
        let mut file = None;
        let (name, text) = match (plain, other) {
            (None, None) => continue,
            (Some(text), Some((name, other))) if setting.secret || text != other => {
                return Err((
                    format!("is set along with {name}"),
                    format!("Keep one of {} and {name}", setting.name),
                ));
            }
            (Some(text), _) => (setting.name.to_owned(), text),
            (None, Some((name, path))) if setting.secret => {
                let refused = |error: String| secret_file_refusal(&name, &path, &error);
                let read = unfaulty(path.clone()).map(|path| layers.secret_files.read(&path));
                let text = read?.map_err(refused)?;
                file = Some(PathBuf::from(&path));
                (name, text)
            }
            (None, Some(other)) => other,
        };
        return Ok(Some(FoundText { text: unfaulty(text)?, origin: source.origin(), name, file }));
    }
    Ok(None)
}

fn unfaulty(text: String) -> Result<String, WhyAndFix> {
    fault(&text).map_or(Ok(text), |(why, fix)| Err((why.to_owned(), fix.to_owned())))
}

fn secret_file_refusal(name: &str, path: &str, error: &str) -> WhyAndFix {
    // Somebody may have put the secret itself where its path belongs: a path that does not exist is not shown.
    let place = if std::path::Path::new(path).exists() { format!(" {path}") } else { String::new() };
    (
        format!("the file{place} that {name} names cannot be read: {error}"),
        format!("Set {name} to the path of a readable file"),
    )
}

fn check(setting: &Setting, environment: Environment, text: &str) -> Result<(), WhyAndFix> {
    let strict = !Profile::of(environment).weak_secrets;
    let refused = |fault: UrlFault| (fault.what.into_owned(), fault.fix.into_owned());
    let refusal = match setting.check {
        Check::Nothing => None,
        Check::PostgresUrl => match PostgresUrl::parse(text) {
            Err(fault) => return Err(refused(fault)),
            Ok(url) if strict => postgres_password_fault(&url),
            Ok(_) => None,
        },
        Check::EncryptionKey => encryption_key_fault(text, strict)
            .map(|why| (why, "Set it to the output of: openssl rand -base64 32")),
        Check::RedisUrl => return redis_url(text, strict).map_err(refused),
        Check::Host => (!is_host(text)).then_some((
            "is no host",
            "Set it to a name or an address without port and brackets, such as 192.0.2.1",
        )),
        Check::Email => (!is_email(text))
            .then_some(("is no e-mail address", "Set it to an address such as erp@example.com")),
        Check::HttpUrl => (!is_http_url(text))
            .then_some(("is not an https:// URL", "Set it to a URL such as https://cdn.example.com")),
        Check::Token if !text.bytes().all(|byte| byte.is_ascii_graphic()) => Some((
            "holds other characters than visible ASCII, which no header can carry",
            "Set it to the output of: openssl rand -base64 48",
        )),
        Check::Key | Check::Token | Check::Password if !strict => None,
        Check::Key | Check::Token => {
            weakness(text).map(|why| (why, "Set it to the output of: openssl rand -base64 48"))
        }
        Check::Password => password_weakness(text, None).map(|why| (why, NEW_PASSWORD)),
    };
    refusal.map_or(Ok(()), |(why, fix)| Err((why.to_owned(), fix.to_owned())))
}

const NEW_PASSWORD: &str =
    "Give the account a password of its own, such as the output of: openssl rand -hex 24";

fn redis_url(text: &str, strict: bool) -> Result<(), UrlFault> {
    let rest = text.strip_prefix("redis://").or_else(|| text.strip_prefix("rediss://"));
    let no_url = || UrlFault::new("is not a redis:// or rediss:// URL", "Set it to redis://host:6379");
    refuse_cuts(rest.ok_or_else(no_url)?)?;
    let weak = |(user, password)| password_weakness(password, Some(user));
    match redis_password(text).filter(|_| strict).and_then(weak) {
        Some(why) => Err(UrlFault::new(why, NEW_PASSWORD)),
        None => Ok(()),
    }
}

fn postgres_password_fault(url: &PostgresUrl) -> Option<(&'static str, &'static str)> {
    let password = String::from_utf8_lossy(url.driver.get_password()?);
    password_weakness(&password, url.driver.get_user()).map(|why| (why, NEW_PASSWORD))
}

fn is_http_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]".contains(&byte);
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(plain))
}

fn shown(setting: &Setting, text: &str) -> String {
    if setting.secret { "the value".to_owned() } else { format!("\"{}\"", super::value::printable(text)) }
}

/// The name of ours that `name` is a misspelling of.
fn nearest<'a>(known: &'a [String], name: &str) -> Option<&'a str> {
    let name = name.to_ascii_uppercase();
    known
        .iter()
        .map(|ours| (edit_distance(ours.as_bytes(), name.as_bytes()), ours))
        // HOME is two edits from HOST and on every machine: a short name is allowed one edit only.
        .filter(|(distance, ours)| *distance <= if ours.len() < 6 { 1 } else { 2 })
        .min()
        .map(|(_, ours)| ours.as_str())
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (optimal string alignment).
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}
