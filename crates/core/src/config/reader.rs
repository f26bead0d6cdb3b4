//! Reads one row after the other and gathers what is wrong.

use super::consistency::{half_tls, in_the_clear};
use super::features::FEATURE;
use super::mail::{is_email, is_host};
use super::postgres_url::PostgresUrl;
use super::secrets::{encryption_key_fault, password_weakness, redis_password, weakness};
use super::source::{Layers, Origin, Source};
use super::value::Value;
use super::{Check, ClientAuth, Environment, Features, Problem, Problems, Profile, SETTINGS, Setting};

/// A row's text and where it came from.
pub(super) struct Found {
    pub(super) text: String,
    pub(super) origin: Origin,
    /// The name it was found under, such as `NODE_ENV` or `JWT_SECRET_FILE`.
    pub(super) name: String,
}

pub(super) struct Reader<'a> {
    layers: &'a Layers,
    environment: Environment,
    problems: Problems,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self { layers, environment: environment(layers), problems: Problems::default() }
    }

    /// The value of one row; `None` when the reason is noted as a problem.
    pub(super) fn value<T: Value>(&mut self, setting: &Setting) -> Option<T> {
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
                if !features.add(feature, &text) {
                    let message = format!("\"{}\" is not accepted", super::value::printable(&text));
                    self.problems.add(
                        super::value::printable(&name),
                        message,
                        "Set it to on, off or a share such as 25%",
                    );
                }
            }
        }
        features
    }

    /// Notes what the sources themselves have to say, such as a line that is none.
    pub(super) fn collect(&mut self) {
        for problem in self.layers.iter().flat_map(Source::problems) {
            self.problems.add(&*problem.name, &*problem.message, &*problem.fix);
        }
    }

    /// Notes keys that are none of ours: any in a `.env` file or among the flags, near misses in the environment.
    pub(super) fn refuse_unknown(&mut self) {
        let known = known_names();
        for source in self.layers.iter() {
            for name in
                source.names().into_iter().filter(|name| !known.contains(name) && !name.starts_with(FEATURE))
            {
                let near = nearest(&known, &name);
                if source.origin() == Origin::Environment && near.is_none() {
                    continue; // the environment is shared with other programs
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

    /// Notes what is wrong with the settings taken together.
    pub(super) fn compare(&mut self) {
        self.compare_databases();
        let asked = self.glance("TLS_CLIENT_AUTH").is_some_and(|auth: ClientAuth| auth != ClientAuth::Off);
        for Problem { name, message, fix } in half_tls(asked, |name| self.glance::<String>(name).is_some()) {
            self.problems.add(name, message, fix);
        }
    }

    fn compare_databases(&mut self) {
        if self.glance("REQUIRE_TLS") != Some(true) {
            return;
        }
        let urls = ["DATABASE_URL", "DATABASE_OWNER_URL"];
        let exposed = |name: &&str| self.glance(name).is_some_and(|url: String| in_the_clear(&url));
        for name in urls.into_iter().filter(exposed).collect::<Vec<_>>() {
            let fix = "Add ?sslmode=verify-full (or require), or set REQUIRE_TLS=false";
            self.problems.add(
                name,
                "reaches another machine over a connection that may not be encrypted",
                fix,
            );
        }
    }

    /// A row's value, or its default while it is wrong, which is noted elsewhere.
    fn glance<T: Value>(&self, name: &str) -> Option<T> {
        let setting = SETTINGS.iter().find(|setting| setting.name == name)?;
        let found = find(self.layers, setting).ok().flatten();
        let value = found.and_then(|found| T::parse(setting, &found.text));
        value.or_else(|| T::parse(setting, setting.default.of(self.environment)?))
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn finish<T>(self, value: Option<T>) -> Result<T, Problems> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
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

type Refusal = (String, String);

/// The strongest layer's text for `setting`, under its name, its alias or, for a secret, `NAME_FILE`.
///
/// An empty text counts as unset.
pub(super) fn find(layers: &Layers, setting: &Setting) -> Result<Option<Found>, Refusal> {
    for source in layers.iter() {
        let get = |name: &str| source.get(name).filter(|text| !text.trim().is_empty());
        let plain = get(setting.name);
        let other_name = setting.alias.map(str::to_owned).or_else(|| setting.file_name());
        let other = other_name.and_then(|name| get(&name).map(|text| (name, text)));
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
                let text = read_secret(&path).map_err(|error| secret_file_refusal(&name, &path, &error))?;
                (name, text)
            }
            (None, Some(other)) => other,
        };
        let text = if setting.secret { text } else { text.trim().to_owned() };
        return Ok(Some(Found { text, origin: source.origin(), name }));
    }
    Ok(None)
}

/// The file's text without its last line break, which editors and `echo` add.
fn read_secret(path: &str) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(std::io::Error::other("the file is empty")) } else { Ok(text.to_owned()) }
}

fn secret_file_refusal(name: &str, path: &str, error: &std::io::Error) -> Refusal {
    // Somebody may have put the secret itself where its path belongs: a path that is none is not shown.
    let place = if std::path::Path::new(path).exists() { format!(" {path}") } else { String::new() };
    (
        format!("the file{place} that {name} names cannot be read: {error}"),
        format!("Set {name} to the path of a readable file"),
    )
}

fn check(setting: &Setting, environment: Environment, text: &str) -> Result<(), Refusal> {
    let strict = !Profile::of(environment).weak_secrets;
    let refusal = match setting.check {
        Check::Nothing => None,
        Check::PostgresUrl => match PostgresUrl::parse(text) {
            Err(fault) => return Err((fault.what.into_owned(), fault.fix.into_owned())),
            Ok(url) if strict => postgres_password_fault(&url),
            Ok(_) => None,
        },
        Check::EncryptionKey => encryption_key_fault(text, strict)
            .map(|why| (why, "Set it to the output of: openssl rand -base64 32")),
        Check::RedisUrl if !text.starts_with("redis://") && !text.starts_with("rediss://") => {
            Some(("is not a redis:// or rediss:// URL", "Set it to redis://host:6379"))
        }
        Check::Host => (!is_host(text))
            .then_some(("is no host", "Set it to a name or an address, such as mail.example.com")),
        Check::Email => (!is_email(text))
            .then_some(("is no e-mail address", "Set it to an address such as erp@example.com")),
        Check::HttpUrl => (!is_http_url(text))
            .then_some(("is not an https:// URL", "Set it to a URL such as https://cdn.example.com")),
        Check::Key | Check::Password | Check::RedisUrl if !strict => None,
        Check::Key => weakness(text).map(|why| (why, "Set it to the output of: openssl rand -base64 48")),
        Check::Password => password_weakness(text, None).map(|why| (why, NEW_PASSWORD)),
        Check::RedisUrl => redis_password(text).and_then(|(user, password)| {
            password_weakness(password, Some(user)).map(|why| (why, NEW_PASSWORD))
        }),
    };
    refusal.map_or(Ok(()), |(why, fix)| Err((why.to_owned(), fix.to_owned())))
}

const NEW_PASSWORD: &str =
    "Give the account a password of its own, such as the output of: openssl rand -hex 24";

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

fn known_names() -> Vec<String> {
    let names = |setting: &Setting| {
        [Some(setting.name.to_owned()), setting.alias.map(str::to_owned), setting.file_name()]
    };
    SETTINGS.iter().flat_map(names).flatten().collect()
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
