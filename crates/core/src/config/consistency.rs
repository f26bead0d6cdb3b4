//! What single settings cannot tell: rules between them. They are judged on what can be read, whatever else is wrong:
//! all problems come in one message.

use std::net::IpAddr;

use super::origins::{host_of, is_site_of};
use super::reader::Reader;
use super::{
    Cidr, ClientAuth, Config, Environment, FilesUrl, PostgresUrl, PublicUrl, SettingProblem, SmtpTls,
    SslMode, TenantDomain,
};

/// What is wrong with the URLs of the database beyond each of them.
pub(super) fn database_urls(reader: &Reader<'_>) -> Vec<SettingProblem> {
    in_the_clear(reader).into_iter().chain(one_login_for_two(reader)).collect()
}

/// Requests and the system must come as two roles: what one may do, the other must not.
fn one_login_for_two(reader: &Reader<'_>) -> Option<SettingProblem> {
    let user = |name| {
        let url = PostgresUrl::parse(&reader.glance::<String>(name)?).ok()?;
        url.driver.get_user().map(str::to_owned)
    };
    let same = user("DATABASE_SYSTEM_URL").is_some_and(|system| Some(system) == user("DATABASE_URL"));
    same.then(|| SettingProblem {
        name: "DATABASE_SYSTEM_URL".into(),
        message: "names the same user as DATABASE_URL".into(),
        fix: "Name the login of the system there: migrations/roles.sql makes erp_system".into(),
    })
}

/// A database of another machine that is reached without TLS where `REQUIRE_TLS` wants it. A URL that cannot be read is a
/// problem of its own.
fn in_the_clear(reader: &Reader<'_>) -> Vec<SettingProblem> {
    let exposed =
        |url: String| PostgresUrl::parse(&url).is_ok_and(|url| url.ssl < SslMode::Require && !url.is_local());
    let wanted = reader.glance("REQUIRE_TLS") == Some(true);
    let urls = ["DATABASE_URL", "DATABASE_SYSTEM_URL", "DATABASE_OWNER_URL"].into_iter();
    let exposed = urls.filter(|name| wanted && reader.glance(name).is_some_and(exposed));
    exposed
        .map(|name| SettingProblem {
            name: name.into(),
            message: "reaches another machine over a connection that may not be encrypted".into(),
            fix: "Add ?sslmode=verify-full (or require), or set REQUIRE_TLS=false".into(),
        })
        .collect()
}

/// Settings of the listener's TLS that make no sense without each other.
pub(super) fn half_tls(reader: &Reader<'_>) -> Vec<SettingProblem> {
    let asked = reader.glance("TLS_CLIENT_AUTH").is_some_and(|auth: ClientAuth| auth != ClientAuth::Off);
    let [certificate, authorities, redirect] =
        ["TLS_CERT_PATH", "TLS_CLIENT_CA_PATH", "HTTP_REDIRECT_PORT"].map(|name| reader.is_set(name));
    let rules = [
        (
            asked && !authorities,
            "TLS_CLIENT_CA_PATH",
            "is not set, and TLS_CLIENT_AUTH asks for certificates",
            "Set it to a PEM file with the authorities that sign them",
        ),
        (
            authorities && !asked,
            "TLS_CLIENT_AUTH",
            "is off, and TLS_CLIENT_CA_PATH is set",
            "Set it to optional or required, or remove TLS_CLIENT_CA_PATH",
        ),
        (
            asked && !certificate,
            "TLS_CLIENT_AUTH",
            "needs TLS to end here",
            "Set TLS_CERT_PATH and TLS_KEY_PATH",
        ),
        (
            redirect && !certificate,
            "HTTP_REDIRECT_PORT",
            "redirects to HTTPS, which is not spoken here",
            "Set TLS_CERT_PATH and TLS_KEY_PATH, or let the proxy redirect",
        ),
    ];
    problems(rules)
}

/// This server's own name must be no tenant's.
fn tenant_domain(reader: &Reader<'_>) -> Vec<SettingProblem> {
    let url: Option<PublicUrl> = reader.glance("PUBLIC_URL");
    let domain: Option<TenantDomain> = reader.glance("TENANT_DOMAIN");
    let below = url.zip(domain).is_some_and(|(url, domain)| {
        let name = url.as_str().trim_start_matches("https://").split(':').next().unwrap_or_default();
        name.strip_suffix(domain.as_str()).is_some_and(|label| label.ends_with('.'))
    });
    problems([(
        below,
        "TENANT_DOMAIN",
        "is above the name in PUBLIC_URL, which would be a tenant's",
        "Set it to that name itself, or to one that nothing but tenants is below, such as tenants.example.com",
    )])
}

/// The rules that are broken. A rule is whether it is, the setting to blame, what is wrong with it, and what to do.
fn problems(
    rules: impl IntoIterator<Item = (bool, &'static str, &'static str, &'static str)>,
) -> Vec<SettingProblem> {
    let broken = rules.into_iter().filter(|(broken, ..)| *broken);
    let problem = |(_, name, message, fix)| SettingProblem {
        name: String::from(name),
        message: String::from(message),
        fix: String::from(fix),
    };
    broken.map(problem).collect()
}

/// What is wrong with the names that pages have.
pub(super) fn names_of_pages(reader: &Reader<'_>) -> Vec<SettingProblem> {
    [tenant_domain(reader), passkeys_of_another_site(reader)].concat()
}

/// Passkeys for a name that no page of ours may use: browsers would refuse to make one.
fn passkeys_of_another_site(reader: &Reader<'_>) -> Vec<SettingProblem> {
    let (name, url): (Option<String>, Option<PublicUrl>) =
        (reader.glance("PASSKEY_RP_ID"), reader.glance("PUBLIC_URL"));
    let other = name
        .zip(url)
        .is_some_and(|(name, url)| host_of(url.as_str()).is_none_or(|host| !is_site_of(&name, host)));
    problems([(
        other,
        "PASSKEY_RP_ID",
        "is neither the host of PUBLIC_URL nor a domain above it",
        "Name that host, or example.com for https://erp.example.com; it is no address",
    )])
}

/// What is wrong with the place of files: several instances that each have a folder of their own, a bucket without its keys,
/// and keys that go over the network in the clear.
pub(super) fn file_store(reader: &Reader<'_>) -> Vec<SettingProblem> {
    let development = reader.glance("APP_ENV") == Some(Environment::Development);
    let several = reader.glance("INSTANCES").is_some_and(|instances: u32| instances > 1);
    let url: Option<FilesUrl> = reader.glance("FILES_URL");
    let in_a_folder = matches!(url, Some(FilesUrl::Folder(_)));
    let without_keys = matches!(url, Some(FilesUrl::Bucket(_))) && !reader.is_set("FILES_ACCESS_KEY");
    let in_the_clear = matches!(&url, Some(FilesUrl::Bucket(bucket)) if bucket.is_in_the_clear());
    let rules = [
        (
            in_a_folder && several && !development,
            "FILES_URL",
            "names a folder, and INSTANCES says that there are several processes, which would not see each other's files",
            "Name a bucket, s3://bucket/prefix?endpoint=https://host&region=name, or set INSTANCES=1",
        ),
        (
            without_keys,
            "FILES_ACCESS_KEY",
            "is not set, and FILES_URL names a bucket",
            "Set FILES_ACCESS_KEY and FILES_SECRET_KEY, or the paths of their files: FILES_SECRET_KEY_FILE",
        ),
        (
            in_the_clear && !development,
            "FILES_URL",
            "reaches a store on another machine without TLS",
            "Begin its endpoint with https://",
        ),
    ];
    problems(rules)
}

/// A password for the mail server that would cross a network in the clear.
pub(super) fn mail_in_the_clear(reader: &Reader<'_>) -> Vec<SettingProblem> {
    let development = reader.glance("APP_ENV") == Some(Environment::Development);
    let away = reader.glance("SMTP_HOST").is_some_and(|host: String| !is_this_machine(&host));
    let clear = reader.glance("SMTP_TLS") == Some(SmtpTls::None);
    let exposed = !development && away && clear && reader.is_set("SMTP_PASSWORD");
    let problem = || SettingProblem {
        name: "SMTP_TLS".into(),
        message: "is none, and SMTP_PASSWORD would be sent to another machine in the clear".into(),
        fix: "Set SMTP_TLS to starttls, or to tls with SMTP_PORT=465".into(),
    };
    exposed.then(problem).into_iter().collect()
}

impl Config {
    /// Whether plain HTTP is kept out: `FORCE_HTTPS`, as far as the server can tell how a client came.
    pub fn enforces_https(&self) -> bool {
        self.http.force_https
            && (self.transport.tls_cert_path.is_some() || !self.http.trusted_proxies.is_empty())
    }

    /// What is accepted, and yet hardly what was meant.
    pub fn warnings(&self) -> Vec<String> {
        let rules = [
            (self.http.force_https && !self.enforces_https(), FORCED_BLINDLY),
            (self.transport.proxy_protocol && self.http.trusted_proxies.is_empty(), GULLIBLE),
            (self.http.trusted_proxies.iter().any(is_everybody), EVERYBODY_TRUSTED),
            (self.profile().open_management && !is_this_machine(&self.process.host), OPEN_DEVELOPMENT),
            (self.metrics.enabled && !self.shows_metrics(), METRICS_UNSEEN),
        ];
        let broken = rules.into_iter().filter(|(broken, _)| *broken).map(|(_, warning)| warning.to_owned());
        self.noticed.iter().cloned().chain(broken).collect()
    }

    /// Whether somebody can read `/metrics`.
    fn shows_metrics(&self) -> bool {
        self.profile().open_management || self.process.metrics_port.is_some() || self.metrics.token.is_some()
    }
}

const FORCED_BLINDLY: &str = "FORCE_HTTPS is on, but without TRUSTED_PROXIES or TLS_CERT_PATH the server cannot tell \
    encrypted requests from plain ones and refuses none: set TRUSTED_PROXIES to the networks of the proxy that ends TLS, \
    or FORCE_HTTPS=false";
const GULLIBLE: &str = "PROXY_PROTOCOL is on, and without TRUSTED_PROXIES every client that reaches the port can claim \
    any address: set TRUSTED_PROXIES to the networks of the load balancer";
const EVERYBODY_TRUSTED: &str = "TRUSTED_PROXIES names so large a network that everybody in it can claim any address, and \
    so escape every limit by address: set it to the networks of your own proxies";
const OPEN_DEVELOPMENT: &str = "APP_ENV is development and HOST can be reached from other machines: they find demo users, \
    causes of errors, /metrics and /log-level without a token. Set HOST=localhost, or APP_ENV=staging";
const METRICS_UNSEEN: &str = "METRICS_ENABLED is on, and /metrics answers 404 since nobody may read it: set METRICS_TOKEN to \
    a bearer token for it, or METRICS_PORT to a port of its own that only operators reach; or METRICS_ENABLED=false";

/// Whether a network is larger than any that one operator owns: the private ones end at /8, and in IPv6 at /7.
fn is_everybody(network: &Cidr) -> bool {
    network.prefix < if network.address.is_ipv4() { 8 } else { 7 }
}

fn is_this_machine(host: &str) -> bool {
    let is_localhost = host.eq_ignore_ascii_case("localhost") || host.ends_with(".localhost");
    is_localhost || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}
