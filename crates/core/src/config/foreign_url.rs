//! What belongs into the URLs of other drivers, and what to say here instead.

use super::postgres_url::{FORM, UrlFault};

const PREPARED: &str = "set DATABASE_PREPARED_STATEMENTS=off instead";
const POOL: &str = "set DATABASE_MAX_CONNECTIONS instead";
const SCHEMA: &str = "every table is in the schema that its migration named";
const TIMEOUT: &str = "set DATABASE_TIMEOUT instead";
const CONNECT: &str = "say connect_timeout=SECONDS, or set DATABASE_CONNECT_TIMEOUT";
const MODE: &str = "say sslmode=require, verify-ca or verify-full instead";
const CLIENT: &str = "client certificates are not supported: sign in with a password";
const LIBPQ: &str = "libpq knows it, and this server does not";

/// Parameters of other drivers' URLs, and of libpq's that are not supported; with what to do instead of them.
const PARAMETERS: [(&str, &str); 44] = [
    ("ApplicationName", "say application_name instead"),
    ("channelBinding", "say channel_binding instead"),
    ("client_encoding", "it is always UTF-8"),
    ("connect_timeout_ms", CONNECT),
    ("connectTimeout", CONNECT),
    ("connection_limit", POOL),
    ("currentSchema", SCHEMA),
    ("default_query_exec_mode", PREPARED),
    ("fallback_application_name", "say application_name instead"),
    ("gssencmode", LIBPQ),
    ("krbsrvname", LIBPQ),
    ("loginTimeout", CONNECT),
    ("max_pool_size", POOL),
    ("passfile", LIBPQ),
    ("pgbouncer", PREPARED),
    ("pool_max_conns", POOL),
    ("pool_size", POOL),
    ("pool_timeout", "set DATABASE_ACQUIRE_TIMEOUT instead"),
    ("prepareThreshold", PREPARED),
    ("prepared_statement_cache_size", PREPARED),
    ("replication", LIBPQ),
    ("require_auth", LIBPQ),
    ("requirepeer", LIBPQ),
    ("schema", SCHEMA),
    ("search_path", SCHEMA),
    ("service", LIBPQ),
    ("socketTimeout", TIMEOUT),
    ("socket_timeout", TIMEOUT),
    ("ssl", MODE),
    ("ssl_max_protocol_version", LIBPQ),
    ("ssl_min_protocol_version", "TLS 1.2 is always the least"),
    ("sslaccept", MODE),
    ("sslcert", CLIENT),
    ("sslcompression", LIBPQ),
    ("sslcrl", LIBPQ),
    ("sslidentity", CLIENT),
    ("sslkey", CLIENT),
    ("sslpassword", CLIENT),
    ("sslsni", LIBPQ),
    ("statement_cache_size", PREPARED),
    ("statement_timeout", TIMEOUT),
    ("targetServerType", "say target_session_attrs=read-write instead"),
    ("tcpKeepAlive", "say keepalives=1 instead"),
    ("uselibpqcompat", "sslmode already means what it means to libpq"),
];

/// What other programs begin with: a name for people, and what to do.
const SCHEMES: [(&str, &str, &str); 9] = [
    (
        "jdbc:",
        "is a JDBC URL",
        "Leave out 'jdbc:', and write user and password before the host: postgresql://user:password@host/database",
    ),
    (
        "postgresql+",
        "is a URL of SQLAlchemy's",
        "Leave out the + and the name of the driver after 'postgresql'",
    ),
    ("postgres+", "is a URL of SQLAlchemy's", "Leave out the + and the name of the driver after 'postgres'"),
    ("postgis://", "is a URL of Django's or Rails'", "Begin it with postgresql://"),
    ("pgsql:", "is a URL of PHP's", FORM),
    (
        "prisma",
        "is a URL of Prisma's own service",
        "Name the PostgreSQL behind it: postgresql://user:password@host/database",
    ),
    ("mysql:", "is a URL of MySQL", "Only PostgreSQL will do: postgresql://user:password@host:5432/database"),
    (
        "mariadb:",
        "is a URL of MariaDB",
        "Only PostgreSQL will do: postgresql://user:password@host:5432/database",
    ),
    (
        "sqlite:",
        "is a URL of SQLite",
        "Only PostgreSQL will do: postgresql://user:password@host:5432/database",
    ),
];

/// What is wrong with a URL that does not begin as ours do.
pub(super) fn scheme(url: &str) -> UrlFault {
    let known = SCHEMES
        .iter()
        .find(|(begin, ..)| url.get(..begin.len()).is_some_and(|text| text.eq_ignore_ascii_case(begin)));
    let keywords = ["host=", "user=", "dbname=", "Host=", "Server="];
    match known {
        Some((_, what, fix)) => UrlFault::new(*what, *fix),
        None if keywords.iter().any(|word| url.contains(word)) => {
            UrlFault::new("is a list of keywords and not a URL", FORM)
        }
        None => UrlFault::new("is not a PostgreSQL URL", FORM),
    }
}

/// Refuses a parameter that the driver does not take, or with this value. The `number`th after the `?` is called by its
/// name where that is a known one: else it may be the end of a password.
pub(super) fn parameter(name: &str, value: &str, number: usize) -> Result<(), UrlFault> {
    if let Some((name, instead)) = PARAMETERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        let what = format!("has the parameter '{name}', which is not one of this server's");
        return Err(UrlFault::new(what, format!("Leave it out: {instead}")));
    }
    let takes = |value: &str| {
        let pair = form_urlencoded::Serializer::new(String::new()).append_pair(name, value).finish();
        // The serializer writes a space as a plus, which is a plus to the driver.
        format!("postgresql://h?{}", pair.replace('+', "%20")).parse::<tokio_postgres::Config>().is_ok()
    };
    if takes(value) {
        return Ok(());
    }
    let known = ["0", "any", "disable", "postgres", "127.0.0.1"].into_iter().any(takes);
    if known {
        let what = format!("has a value of '{name}' that it does not take");
        return Err(UrlFault::new(
            what,
            "Correct it: PostgreSQL's manual, \"Parameter Key Words\", lists the values",
        ));
    }
    let what = format!("has a parameter that is not known (number {number} after the ?)");
    Err(UrlFault::new(what, "Leave it out; or, if it is part of a value, percent-encode & as %26"))
}

#[cfg(test)]
mod tests {
    use crate::config::PostgresUrl;

    #[test]
    fn what_belongs_to_another_driver_is_named_with_what_to_say_instead() {
        for (rest, name, instead) in [
            ("schema=public", "'schema'", "Leave it out"),
            ("pgbouncer=true", "'pgbouncer'", "DATABASE_PREPARED_STATEMENTS=off"),
            ("connection_limit=5", "'connection_limit'", "DATABASE_MAX_CONNECTIONS"),
            ("ssl=true", "'ssl'", "sslmode=require"),
            ("sslcert=a.pem", "'sslcert'", "password"),
            ("SSLMODE=require&a=1", "number 1", "%26"),
            ("password=p&hunter2=1", "number 2", "%26"),
            ("connect_timeout=soon", "'connect_timeout'", "Correct it"),
            ("target_session_attrs=primary", "'target_session_attrs'", "Correct it"),
            ("keepalives", "'keepalives'", "Correct it"),
        ] {
            let fault = PostgresUrl::parse(&format!("postgresql://u@h/d?{rest}")).err().unwrap();
            assert!(fault.what.contains(name) && fault.fix.contains(instead), "{rest}: {fault:?}");
            assert!(!fault.what.contains("hunter2"), "{fault:?}");
        }
        for (url, what) in [
            ("jdbc:postgresql://h/d?user=u&password=hunter2", "JDBC"),
            ("postgresql+asyncpg://u:hunter2@h/d", "SQLAlchemy"),
            ("mysql://u:hunter2@h/d", "MySQL"),
            ("host=h user=u password=hunter2", "keywords"),
            ("hunter2", "not a PostgreSQL URL"),
        ] {
            let fault = PostgresUrl::parse(url).err().unwrap();
            assert!(fault.what.contains(what) && !format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
    }

    #[test]
    fn what_the_driver_takes_is_let_through() {
        let all = "user=u&password=p&dbname=d&options=-c%20a%3Db&application_name=a+b&sslnegotiation=direct&\
            host=h&hostaddr=10.0.0.1&port=1&connect_timeout=1&tcp_user_timeout=1&keepalives=1&keepalives_idle=1&\
            keepalives_interval=1&keepalives_retries=1&target_session_attrs=any&channel_binding=prefer&\
            load_balance_hosts=random";
        let url = PostgresUrl::parse(&format!("postgresql:///?{all}")).ok().unwrap();
        assert_eq!(url.driver.get_application_name(), Some("a+b"));
    }
}
