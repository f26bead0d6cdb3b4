//! The core's settings, one block a section. A row in its block is all that a new setting needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::consistency::{database_urls, file_store, half_tls, mail_in_the_clear, names_of_pages};
use super::reader::Reader;
use super::section::{AnySettings, Section, Settings};
use super::{
    AllowedHosts, ByteSize, Cidr, ClientAuth, Environment, Features, FilesUrl, Level, LogFormat, Origins,
    PublicUrl, Setting, SmtpTls, StreamUrl, TenantDomain, TlsVersion, TokenAlgorithm, WitnessUrl,
};
use crate::settings;
use crate::shared::Secret;

settings! {
    /// What this process is, and where it stands.
    pub struct ProcessSettings in "Application";

    /// What this process is for. It decides defaults, what is required and how strict the checks are.
    APP_ENV app_env: Environment { alias: Some("NODE_ENV"), default: Defaults::all("development") };

    /// TCP port of the API; 0 lets the system choose a free one.
    PORT port: u16 { default: Defaults::all("3001"), range: Some(("0", "65535")) };

    /// Name or address to listen on. `localhost` binds 127.0.0.1 and ::1; use `0.0.0.0` in a container.
    HOST host: String { default: Defaults::all("localhost"), check: Check::Host };

    /// Folder for generated development secrets, demo credentials and the private PostgreSQL cluster.
    DATA_DIR data_dir: PathBuf { default: Defaults::all("./.data") };

    /// Port of a second listener with `/metrics`, `/health/detailed`, `/log-level`, `/docs`, `/openapi.json` and the probes,
    /// which asks for no token: keep it inside the cluster. Outside development the port of the API then has only the probes
    /// of these.
    METRICS_PORT metrics_port: Option<u16> { range: Some(("0", "65535")) };

    /// How many processes like this one share the database and the limits: one connection more than
    /// `DATABASE_MAX_CONNECTIONS`, times this, must fit into what PostgreSQL gives.
    INSTANCES instances: u32 { default: Defaults::all("1"), range: Some(("1", "1000")) };

    /// Threads that run requests and background work; unset, one for each core that this process may use.
    WORKER_THREADS worker_threads: Option<u32> { range: Some(("1", "1024")) };
}

settings! {
    /// How many connections and requests there may be at a time, and how long they may take.
    pub struct TrafficSettings in "Application";

    /// Most connections at a time. Each takes a file descriptor: raise the limit of those first.
    MAX_CONNECTIONS max_connections: u32 { default: Defaults::all("10000"), range: Some(("1", "1000000")) };

    /// Most connections at a time of one address, or of one /64 network of IPv6. A load balancer is one address.
    MAX_CONNECTIONS_PER_ADDRESS max_connections_per_address: u32 {
        default: Defaults::all("1000"), range: Some(("1", "1000000")),
    };

    /// How long a connection may take until the head of its first request is complete, and each later head from its
    /// first byte.
    HEADER_TIMEOUT header_timeout: Duration { default: Defaults::all("10s"), range: Some(("10ms", "15s")) };

    /// How long a connection may be silent between two requests. Longer than a load balancer's own limit, or that will
    /// now and then send into a connection that is just closing.
    KEEP_ALIVE_TIMEOUT keep_alive_timeout: Duration { default: Defaults::all("75s"), range: Some(("10ms", "1h")) };

    /// How long a request may take before it is answered with 503 and its work is cancelled.
    REQUEST_TIMEOUT request_timeout: Duration {
        default: Defaults::all("30s"), unit: Unit::Milliseconds, range: Some(("1ms", "1h")),
    };

    /// How long a request's body may take until it is there, before it is answered with 408.
    BODY_TIMEOUT body_timeout: Duration { default: Defaults::all("25s"), range: Some(("10ms", "1h")) };

    /// Most requests that are worked on at a time; three quarters of them of one tenant, or of strangers, and an eighth of
    /// one stranger's address. Further ones are answered with 503 at once: what waits too long helps nobody, and what is
    /// refused early costs little. Probes and operators' routes are always answered.
    MAX_CONCURRENT_REQUESTS max_concurrent_requests: u32 {
        default: Defaults::all("512"), range: Some(("1", "1000000")),
    };

    /// How long a streamed list may take as a whole: it holds a connection of the database all the while.
    STREAM_TIMEOUT stream_timeout: Duration { default: Defaults::all("10m"), range: Some(("1s", "24h")) };

    /// Most streamed lists at a time, half of them of one tenant; never more than half of `DATABASE_MAX_CONNECTIONS`.
    MAX_STREAMS max_streams: u32 { default: Defaults::all("4"), range: Some(("1", "1000")) };
}

settings! {
    /// How long a start and a stop may take.
    pub struct LifecycleSettings in "Application";

    /// How long a start may wait for what it depends on, such as a database that is still coming up.
    STARTUP_TIMEOUT startup_timeout: Duration { default: Defaults::all("60s"), range: Some(("1s", "1h")) };

    /// How long requests and jobs may take to end at a stop, after `SHUTDOWN_DRAIN_DELAY`. What is left then is cut off.
    SHUTDOWN_TIMEOUT shutdown_timeout: Duration {
        default: Defaults::all("30s"), unit: Unit::Milliseconds, range: Some(("1ms", "1h")),
    };

    /// How long readiness answers 503 before the listener closes, so that load balancers look away first.
    SHUTDOWN_DRAIN_DELAY shutdown_drain_delay: Duration {
        default: Defaults::split("0s", "5s"), range: Some(("0s", "10m")),
    };
}

settings! {
    /// What is logged, and how.
    pub struct LoggingSettings in "Logging and metrics";

    /// Least important level that is written. Can be changed at run time.
    LOG_LEVEL level: Level { default: Defaults::split("http", "info") };

    /// How a log line looks: `console` for people, `json` for machines.
    LOG_FORMAT format: LogFormat { default: Defaults::split("console", "json") };

    /// File to append log lines to, instead of standard output. It may be rotated by renaming, without a signal.
    LOG_FILE file: Option<PathBuf> {};
}

settings! {
    /// What is measured, and who may read it.
    pub struct MetricsSettings in "Logging and metrics";

    /// Whether metrics are recorded and `/metrics` answers.
    METRICS_ENABLED enabled: bool { default: Defaults::all("true") };

    /// How many tenants have series of their own in metrics, the busiest ones; the rest share the label `other`.
    /// 0 leaves the label out.
    METRICS_TENANT_LIMIT tenant_limit: u32 { default: Defaults::all("50"), range: Some(("0", "1000")) };

    /// Bearer token that opens `/metrics`, `/health/detailed`, `/log-level`, `/docs` and `/openapi.json` outside development,
    /// while `METRICS_PORT` is unset.
    METRICS_TOKEN token: Option<Secret<String>> { check: Check::Token };

    /// What `METRICS_TOKEN` was before: it opens the same, until the monitoring has the new one.
    METRICS_TOKEN_PREVIOUS token_previous: Option<Secret<String>> { check: Check::Token, along_with: &["METRICS_TOKEN"] };
}

settings! {
    /// How jobs are worked on.
    pub struct JobSettings in "Jobs";

    /// How many jobs this process runs at a time; 0 leaves them to others, such as `erp-backend worker`. A job that changes
    /// something holds a connection of the pool meanwhile.
    JOB_WORKERS workers: u32 { default: Defaults::all("10"), range: Some(("0", "1000")) };

    /// Threads for the kinds of jobs that compute or block; unset, one for each core that this process may use. They are
    /// started only where there are such kinds.
    JOB_THREADS threads: Option<u32> { range: Some(("1", "1024")) };

    /// Most jobs of one tenant that wait at a time. What would enqueue a further one is answered with 503.
    JOB_BACKLOG backlog: u32 { default: Defaults::all("100000"), range: Some(("1", "100000000")) };

    /// How many days a job that is over is kept for those who ask what became of it.
    JOB_RETENTION_DAYS retention_days: u32 { default: Defaults::all("7"), range: Some(("1", "3650")) };

    /// How many days an event is kept, for webhooks and for subscribers that read from an earlier time.
    EVENT_RETENTION_DAYS event_retention_days: u32 { default: Defaults::all("30"), range: Some(("7", "3650")) };
}

settings! {
    /// Where the database is, and how it is used.
    pub struct DatabaseSettings in "Database", rules database_urls;

    /// PostgreSQL URL of the runtime role, which owns no table and cannot bypass row-level security.
    /// `sslmode` and `sslrootcert` work as in libpq. In development, when unset, a private cluster is started.
    DATABASE_URL url: Option<Secret<String>> {
        check: Check::PostgresUrl, required_in: OUTSIDE_DEVELOPMENT,
    };

    /// PostgreSQL URL of the system's login, which does the declared work of the system, such as sign-in, and owns nothing
    /// either. In development, when unset: `DATABASE_URL` with `_app` at the end of the user's name replaced by `_system`.
    DATABASE_SYSTEM_URL system_url: Option<Secret<String>> {
        check: Check::PostgresUrl, required_in: OUTSIDE_DEVELOPMENT,
    };

    /// PostgreSQL URL of the owner role, for `db migrate`. A serving process does not need it.
    DATABASE_OWNER_URL owner_url: Option<Secret<String>> { check: Check::PostgresUrl };

    /// Whether a database on another machine must be reached with TLS: `sslmode=require`, `verify-ca` or `verify-full`.
    REQUIRE_TLS require_tls: bool { default: Defaults::split("false", "true") };

    /// Most connections of one process's pool. It has one more to watch over the database, and the isolation proof opens one
    /// for a moment.
    DATABASE_MAX_CONNECTIONS max_connections: u32 {
        default: Defaults::all("20"), range: Some(("1", "1000")),
    };

    /// Most connections of one process's second pool, that of the system's login.
    DATABASE_SYSTEM_MAX_CONNECTIONS system_max_connections: u32 {
        default: Defaults::all("4"), range: Some(("1", "1000")),
    };

    /// How long a request waits for a free connection before it is answered with 503.
    DATABASE_ACQUIRE_TIMEOUT acquire_timeout: Duration {
        default: Defaults::all("30s"), unit: Unit::Milliseconds, range: Some(("1ms", "10m")),
    };

    /// How long it may take to open one connection of the pool; where the URL names several hosts, they share it.
    /// `connect_timeout` in the URL takes its place, for each address by itself. Connections outside the pool have 3 s, and
    /// the one that watches over the database 2 s.
    DATABASE_CONNECT_TIMEOUT connect_timeout: Duration {
        default: Defaults::all("3s"), unit: Unit::Milliseconds, range: Some(("1ms", "10m")),
    };

    /// How long a statement may run before PostgreSQL cancels it. A route may lower it for itself.
    DATABASE_TIMEOUT timeout: Duration {
        default: Defaults::all("30s"), unit: Unit::Milliseconds, range: Some(("1ms", "1h")),
    };

    /// How long a connection may stay unused before it is closed. One that was silent for 5 s is asked for a sign of life
    /// before it is used, since the networks of clouds forget silent connections after 4 to 6 minutes.
    DATABASE_IDLE_TIMEOUT idle_timeout: Duration {
        default: Defaults::all("10m"), range: Some(("1s", "24h")),
    };

    /// Most connections that one tenant may hold in one process, so that its rush leaves some to the others.
    DATABASE_TENANT_MAX_CONNECTIONS tenant_max_connections: u32 {
        default: Defaults::all("10"), range: Some(("1", "1000")),
    };

    /// Whether statements are prepared on each connection. Turn it off behind a pooler in transaction mode.
    DATABASE_PREPARED_STATEMENTS prepared_statements: bool { default: Defaults::all("true") };

    /// Whether every statement is logged, with its duration and without its parameters.
    DATABASE_LOGGING logging: bool { default: Defaults::split("true", "false") };

    /// Statements that take longer are logged as slow.
    DATABASE_SLOW_QUERY slow_query: Duration { default: Defaults::all("1s"), range: Some(("1ms", "1h")) };
}

settings! {
    /// Access tokens.
    pub struct JwtSettings in "Security";

    /// Key that signs access tokens. At least 32 random bytes: `openssl rand -base64 48`.
    /// In development, when unset, one is generated into `DATA_DIR`.
    JWT_SECRET secret: Option<Secret<String>> { check: Check::Key, required_in: OUTSIDE_DEVELOPMENT };

    /// What `JWT_SECRET` was before: it verifies, opens what it has sealed, and signs nothing, so that a rotation signs nobody out.
    JWT_SECRET_PREVIOUS secret_previous: Option<Secret<String>> { check: Check::Key };

    /// What `JWT_SECRET` will be: it verifies and signs nothing, so that every instance knows it before one signs with it.
    /// `erp-backend secret rotate` makes one and says the steps.
    JWT_SECRET_NEXT secret_next: Option<Secret<String>> { check: Check::Key };

    /// How access tokens are signed: `HS256`, which nobody but the server verifies, or `EdDSA`, whose public keys are at
    /// `/.well-known/jwks.json`. Tokens of either kind are verified, whichever is set.
    JWT_ALGORITHM algorithm: TokenAlgorithm { default: Defaults::all("HS256") };

    /// How long an access token is valid. 15 minutes is also the most: a stolen token must be short-lived.
    JWT_EXPIRES_IN expires_in: Duration { default: Defaults::all("15m"), range: Some(("1s", "15m")) };
}

settings! {
    /// Data at rest.
    pub struct EncryptionSettings in "Security";

    /// Key that wraps the data keys of tenants, which encrypt columns, files and the secrets of people: 32 bytes as base64 or hex,
    /// `openssl rand -base64 32`. Keep a copy of it elsewhere: without it nothing that is encrypted can be read again.
    ENCRYPTION_KEY key: Option<Secret<String>> { check: Check::EncryptionKey, required_in: OUTSIDE_DEVELOPMENT };

    /// What `ENCRYPTION_KEY` was before: it opens what it has wrapped, and wraps nothing. `erp-backend secret status` says when it
    /// is of no more use.
    ENCRYPTION_KEY_PREVIOUS key_previous: Option<Secret<String>> { check: Check::EncryptionKey };

    /// What `ENCRYPTION_KEY` will be: it opens and wraps nothing, so that every instance knows it before one wraps with it.
    ENCRYPTION_KEY_NEXT key_next: Option<Secret<String>> { check: Check::EncryptionKey };
}

settings! {
    /// How the audit log is sealed.
    pub struct AuditSettings in "Security";

    /// Key that signs the checkpoints of the audit log (Ed25519): 32 bytes as base64 or hex, `openssl rand -base64 32`. Who has it
    /// and the database can forge a past: keep it from the database's administrators. In development, when unset, one is generated
    /// into `DATA_DIR`.
    AUDIT_SIGNING_KEY signing_key: Option<Secret<String>> { check: Check::EncryptionKey, required_in: OUTSIDE_DEVELOPMENT };

    /// What `AUDIT_SIGNING_KEY` was before: it verifies and signs nothing. All logs are signed with the new key within a minute.
    AUDIT_SIGNING_KEY_PREVIOUS signing_key_previous: Option<Secret<String>> { check: Check::EncryptionKey };

    /// What the names of audit logs begin with, such as `erp.example.com`: they are signed along, so that no log is taken for another
    /// installation's. Default: the host of `PUBLIC_URL`, or else `erp-backend`. A log keeps the name that it began with.
    AUDIT_ORIGIN origin: Option<String> { check: Check::Host };

    /// How often new rows of the audit log are sealed.
    AUDIT_SEAL_INTERVAL seal_interval: Duration {
        default: Defaults::all("1s"), unit: Unit::Milliseconds, range: Some(("20ms", "24h")),
    };

    /// Where the checkpoint of the platform's log goes each `AUDIT_WITNESS_INTERVAL`, so that nobody can take the past back unseen:
    /// `file:///mnt/worm/notes`, to which it is appended; `syslog://logs.example.com:601` (TCP); or an `https://` URL that speaks as a
    /// witness of C2SP does, or takes what is posted.
    AUDIT_WITNESS_URL witness_url: Option<WitnessUrl> {};

    /// Where rows of all tenants' audit logs are streamed to once they are sealed (SIEM): `syslogs://logs.example.com:6514`, which is RFC
    /// 5424 over TLS with octet counting, or `ocsfs://logs.example.com:5171`, which is JSON lines with the fields of OCSF. Without the
    /// `s` at the end of the scheme it goes over plain TCP. Each row comes at least once, with an id.
    AUDIT_STREAM_URL stream_url: Option<StreamUrl> {};

    /// How often checkpoints are noted in the platform's log and told to the witness.
    AUDIT_WITNESS_INTERVAL witness_interval: Duration { default: Defaults::all("1m"), range: Some(("100ms", "24h")) };
}

settings! {
    /// Requests and failed sign-ins of one client.
    pub struct RateLimitSettings in "HTTP edge";

    /// Most requests in `RATE_LIMIT_WINDOW`: without a credential, of one address; with one, of a person in a tenant, and of
    /// all people of the tenant at one address together. A tenant can have a limit of its own.
    RATE_LIMIT_MAX max: u32 { default: Defaults::all("100"), range: Some(("1", "1000000")) };

    /// The window of `RATE_LIMIT_MAX`. What was used comes back evenly over it: after a silence the whole limit may pass
    /// at once, and almost as much again, one by one, until the window ends.
    RATE_LIMIT_WINDOW window: Duration { default: Defaults::all("15m"), range: Some(("1s", "24h")) };

    /// Most failed sign-ins of one address in any `RATE_LIMIT_AUTH_WINDOW`; a /48 network of IPv6 may make four times as many.
    /// After twice as many in a row at one account, wherever they come from, each further one wants a pause before it.
    RATE_LIMIT_AUTH_MAX auth_max: u32 { default: Defaults::all("5"), range: Some(("1", "100")) };

    /// The window of `RATE_LIMIT_AUTH_MAX`.
    RATE_LIMIT_AUTH_WINDOW auth_window: Duration { default: Defaults::all("15m"), range: Some(("1s", "24h")) };
}

settings! {
    /// How a client is slowed down before it is refused.
    pub struct SpeedLimitSettings in "HTTP edge";

    /// How much later a request is answered for each one above half of its client's limit; 0 answers all at once.
    SPEED_LIMIT_STEP step: Duration {
        default: Defaults::all("50ms"), unit: Unit::Milliseconds, range: Some(("0ms", "10s")),
    };

    /// The longest that a request is held back.
    SPEED_LIMIT_MAX_DELAY max_delay: Duration {
        default: Defaults::all("2s"), unit: Unit::Milliseconds, range: Some(("0ms", "20s")),
    };

    /// Most requests that are held back at a time; those beyond are answered with 429.
    SPEED_LIMIT_SLEEPERS sleepers: u32 { default: Defaults::all("100"), range: Some(("1", "10000")) };
}

settings! {
    /// What is believed of requests, and how they are answered.
    pub struct HttpSettings in "HTTP edge", rules names_of_pages;

    /// How long the answer to a request with an `Idempotency-Key` is kept for its repetitions.
    IDEMPOTENCY_KEEP idempotency_keep: Duration { default: Defaults::all("24h"), range: Some(("1m", "720h")) };

    /// Proxies whose forwarding headers are believed: networks such as `10.0.0.0/8`, separated by commas. Without them
    /// the address of the connection counts.
    TRUSTED_PROXIES trusted_proxies: Vec<Cidr> {};

    /// Origins whose pages may call from a browser, such as `https://app.example.com`, separated by commas. Without them
    /// none may; in development, those of any port of this machine.
    CORS_ORIGINS cors_origins: Origins {};

    /// Whether plain HTTP is redirected to `PUBLIC_URL` or refused, but for probes and `/metrics`. It takes effect once
    /// the server can tell: with `TRUSTED_PROXIES` or `TLS_CERT_PATH`.
    FORCE_HTTPS force_https: bool { default: Defaults::split("false", "true") };

    /// Where clients reach this API, such as `https://api.example.com`. Without it plain HTTP is refused and not
    /// redirected.
    PUBLIC_URL public_url: Option<PublicUrl> {};

    /// The domain below which each tenant has a name of its own, such as `erp.example.com` for `acme.erp.example.com`: it selects among
    /// the tenants that a caller belongs to, and grants nothing.
    TENANT_DOMAIN tenant_domain: Option<TenantDomain> {};

    /// The name that passkeys are made for: the host of `PUBLIC_URL`, which it is by default, or a domain above it. The pages below
    /// `TENANT_DOMAIN` use them where that is below it too. Passkeys of another name are good no more.
    PASSKEY_RP_ID passkey_rp_id: Option<String> { check: Check::Host, along_with: &["PUBLIC_URL"] };

    /// Where pages fetch their files from, when a CDN stands before `/assets/`: a URL such as `https://cdn.example.com`.
    ASSET_BASE_URL asset_base_url: Option<String> { check: Check::HttpUrl };

    /// Whether answers are compressed for clients that accept it: gzip, brotli or zstd.
    COMPRESSION compression: bool { default: Defaults::all("true") };
}

settings! {
    /// What is spoken below HTTP: TLS, the PROXY protocol, and the port that redirects plain HTTP.
    pub struct TransportSettings in "HTTP edge", rules half_tls;

    /// PEM file with the server's certificate and its chain. With it and `TLS_KEY_PATH` the port of the API speaks HTTPS
    /// only; without them TLS ends at a proxy. Both are read again when they change.
    TLS_CERT_PATH tls_cert_path: Option<PathBuf> { along_with: &["TLS_KEY_PATH"] };

    /// PEM file with the certificate's key, not encrypted.
    TLS_KEY_PATH tls_key_path: Option<PathBuf> { along_with: &["TLS_CERT_PATH"] };

    /// Oldest version of TLS that is spoken. 1.2 is for clients that cannot do better.
    TLS_MIN_VERSION tls_min_version: TlsVersion { default: Defaults::all("1.3") };

    /// How long a TLS handshake may take.
    TLS_HANDSHAKE_TIMEOUT tls_handshake_timeout: Duration {
        default: Defaults::all("10s"), range: Some(("10ms", "15s")),
    };

    /// Whether clients show a certificate of an authority in `TLS_CLIENT_CA_PATH`: `optional` verifies those that do.
    TLS_CLIENT_AUTH tls_client_auth: ClientAuth { default: Defaults::all("off") };

    /// PEM file with the authorities of client certificates. Read at the start.
    TLS_CLIENT_CA_PATH tls_client_ca_path: Option<PathBuf> {};

    /// Port of a listener that redirects plain HTTP to `PUBLIC_URL`; while that is unset, to the request's own host at `PORT`,
    /// if the certificate names that host. Needs `TLS_CERT_PATH`.
    HTTP_REDIRECT_PORT http_redirect_port: Option<u16> { range: Some(("0", "65535")) };

    /// Whether each connection, but for those of `METRICS_PORT`, begins with a PROXY protocol header of version 2, as a
    /// TCP load balancer sends it. It is believed from `TRUSTED_PROXIES`, or from everybody while that is empty.
    PROXY_PROTOCOL proxy_protocol: bool { default: Defaults::all("false") };
}

settings! {
    /// What instances share limits through.
    pub struct RedisSettings in "External services";

    /// Redis 5 or later that instances share limits and caches through; `rediss://` for TLS. Without it, and while it does
    /// not answer, each instance counts by itself, and keeps values for 5 seconds at most where `INSTANCES` is not 1.
    REDIS_URL url: Option<Secret<String>> { check: Check::RedisUrl };

    /// How long Redis may take for an answer. Then the instance decides by itself, until Redis answers again.
    REDIS_TIMEOUT timeout: Duration {
        default: Defaults::all("40ms"), unit: Unit::Milliseconds, range: Some(("1ms", "10s")),
    };
}

settings! {
    /// What is kept of what was read.
    pub struct CacheSettings in "Cache";

    /// How much of what was read this process keeps, with a unit: `64MiB`. 0: nothing is kept, here or in Redis, and
    /// everything is read from the database.
    CACHE_MEMORY memory: ByteSize { default: Defaults::all("64MiB"), range: Some(("0", "64GiB")) };
}

settings! {
    /// How mail is sent.
    pub struct MailSettings in "Mail", rules mail_in_the_clear;

    /// Mail server that takes the product's mails. Without it they go to files in development (`DATA_DIR/mails`, shown at
    /// `/dev/mail`), and are recorded as held elsewhere.
    SMTP_HOST host: Option<String> { check: Check::Host, along_with: &["SMTP_FROM"] };

    /// The mail server's port: 587 for submission, 465 with `SMTP_TLS=tls`.
    SMTP_PORT port: u16 { default: Defaults::all("587"), range: Some(("1", "65535")) };

    /// The account to send mail as.
    SMTP_USER user: Option<String> { along_with: &["SMTP_PASSWORD"] };

    /// The account's password.
    SMTP_PASSWORD password: Option<Secret<String>> { check: Check::Password };

    /// The sender's address, such as `erp@example.com`. The tenant's name stands beside it.
    SMTP_FROM from: Option<String> { check: Check::Email };

    /// How the connection to the mail server is protected. With `starttls` nothing is sent to a server that does not offer it.
    /// Authorities are this machine's and those of `OUTBOUND_CA_PATH`.
    SMTP_TLS tls: SmtpTls { default: Defaults::all("starttls") };

    /// How long each stage of the exchange with the mail server may take: its name, TCP, TLS, greeting, sign-in, sender,
    /// recipient, and twice as long for what it says once it has the whole mail.
    SMTP_TIMEOUT timeout: Duration {
        default: Defaults::all("20s"), unit: Unit::Milliseconds, range: Some(("10ms", "5m")),
    };

    /// Most connections of this process to the mail server.
    SMTP_CONNECTIONS connections: u32 { default: Defaults::all("4"), range: Some(("1", "64")) };

    /// How many days what a mail says is kept once it is sent. That it was sent is known after that, too.
    MAIL_RETENTION_DAYS retention_days: u32 { default: Defaults::all("30"), range: Some(("1", "3650")) };
}

settings! {
    /// Outgoing webhooks.
    pub struct WebhookSettings in "External services";

    /// Key that the secrets of webhooks' endpoints are kept with. At least 32 random bytes: `openssl rand -base64 48`. Without
    /// it there are no webhooks. In development, when unset, one is generated into `DATA_DIR`.
    WEBHOOK_SECRET secret: Option<Secret<String>> { check: Check::Key };

    /// The former `WEBHOOK_SECRET`, until all secrets are kept with the new one: the next night, or after the job
    /// `webhooks.rewrap`. No endpoint's own secret changes.
    WEBHOOK_SECRET_PREVIOUS secret_previous: Option<Secret<String>> { check: Check::Key };
}

settings! {
    /// Calls of other services.
    pub struct OutboundSettings in "External services";

    /// Hosts that calls may go to, such as `hooks.example.com,*.partner.example,127.0.0.1:4000`. In staging nothing else is
    /// called: such calls are logged and not sent. In production the same, once it is set. In development it names what
    /// tenants' URLs may reach on this machine.
    OUTBOUND_ALLOW allow: Option<AllowedHosts> {};

    /// How long a call of another service may take as a whole, with its repetitions, unless the code says otherwise.
    OUTBOUND_TIMEOUT timeout: Duration {
        default: Defaults::all("15s"), unit: Unit::Milliseconds, range: Some(("10ms", "10m")),
    };

    /// How long it may take until a connection to another service is open: its name, TCP and TLS.
    OUTBOUND_CONNECT_TIMEOUT connect_timeout: Duration {
        default: Defaults::all("5s"), unit: Unit::Milliseconds, range: Some(("10ms", "1m")),
    };

    /// PEM file with authorities that other services' certificates may be of, beside those that this machine trusts.
    OUTBOUND_CA_PATH ca_path: Option<PathBuf> {};
}

settings! {
    /// Where files are kept, and how much of them.
    pub struct FileSettings in "Files", rules file_store;

    /// Where files are kept: a folder, `file:///var/lib/erp/files`, or a bucket of S3 or of a store that speaks as S3 does,
    /// `s3://bucket/prefix?endpoint=https://s3.example.com&region=eu-central-1`. In development, when unset, the folder `files`
    /// of `DATA_DIR`. Elsewhere no file can be stored while it is unset.
    FILES_URL url: Option<FilesUrl> {};

    /// Where a signed note of each erasure is kept, in the same form: what a restored backup has to forget again. When unset, beside the
    /// files. It must not be restored with the database.
    ERASURE_LEDGER_URL ledger_url: Option<FilesUrl> {};

    /// Access key of the bucket.
    FILES_ACCESS_KEY access_key: Option<Secret<String>> { along_with: &["FILES_SECRET_KEY"] };

    /// Secret key of the bucket.
    FILES_SECRET_KEY secret_key: Option<Secret<String>> { along_with: &["FILES_ACCESS_KEY"] };

    /// How much the files of one tenant may take, with a unit: `10GiB`.
    FILES_TENANT_QUOTA tenant_quota: ByteSize { default: Defaults::all("10GiB"), range: Some(("0", "1000000GiB")) };

    /// Most uploads that a process takes at a time, three quarters of them of one tenant. Each holds up to 5 MiB of memory where
    /// files are in a bucket, and 1 MiB where they are in a folder.
    FILES_MAX_UPLOADS max_uploads: u32 { default: Defaults::all("16"), range: Some(("1", "1000")) };

    /// How long an upload or a download may take as a whole.
    FILES_TRANSFER_TIMEOUT transfer_timeout: Duration { default: Defaults::all("10m"), range: Some(("1s", "24h")) };

    /// How long the store may take for one step: to take a part of a file, to give the next one, to remove one; and four times as
    /// long to complete a file.
    FILES_STORE_TIMEOUT store_timeout: Duration {
        default: Defaults::all("15s"), unit: Unit::Milliseconds, range: Some(("10ms", "10m")),
    };

    /// How old an upload that was never finished must be before the nightly sweep removes what is left of it.
    FILES_SWEEP_AFTER sweep_after: Duration { default: Defaults::all("24h"), range: Some(("1s", "720h")) };
}

/// Makes [`Config`] of its sections.
macro_rules! config {
    ($($(#[doc = $doc:literal])+ $field:ident: $section:ty,)+) => {
        /// The settings of one process, by section.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $field: $section,)+
            /// The switches of `FEATURE_<NAME>`.
            pub features: Features,
            /// What the sources say, by name; of a secret only that it is there.
            pub given: BTreeMap<String, String>,
            /// The files that secrets were read from, by the names of their settings.
            pub secret_files: BTreeMap<&'static str, PathBuf>,
            /// The sections of modules: see [`Config::of_module`].
            pub(super) of_modules: Vec<AnySettings>,
            /// What the sources hold that wants an operator's attention: a part of [`Config::warnings`].
            pub(super) noticed: Vec<String>,
        }

        /// The core's sections, in the order of the reference.
        pub(super) const SECTIONS: &[Section] = &[$(Section::of::<$section>()),+];

        impl Config {
            /// The core's sections, or `None` when a setting has no value; the reader holds the reasons.
            pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
                // Every section is read before the first `?`, so that all problems come out at once.
                $(let $field = <$section>::read(reader);)+
                let features = reader.features();
                Some(Self { $($field: $field?,)+ features, given: BTreeMap::new(), secret_files: BTreeMap::new(), of_modules: Vec::new(), noticed: Vec::new() })
            }
        }
    };
}

config! {
    /// What this process is, and where it stands.
    process: ProcessSettings,
    /// How many connections and requests there may be at a time, and how long they may take.
    traffic: TrafficSettings,
    /// How long a start and a stop may take.
    lifecycle: LifecycleSettings,
    /// How jobs are worked on.
    jobs: JobSettings,
    /// What is logged, and how.
    logging: LoggingSettings,
    /// What is measured, and who may read it.
    metrics: MetricsSettings,
    /// Where the database is, and how it is used.
    database: DatabaseSettings,
    /// Access tokens.
    jwt: JwtSettings,
    /// Data at rest.
    encryption: EncryptionSettings,
    /// How the audit log is sealed.
    audit: AuditSettings,
    /// Requests and failed sign-ins of one client.
    rate_limit: RateLimitSettings,
    /// How a client is slowed down before it is refused.
    speed_limit: SpeedLimitSettings,
    /// What is believed of requests, and how they are answered.
    http: HttpSettings,
    /// What is spoken below HTTP: TLS, the PROXY protocol, and the port that redirects plain HTTP.
    transport: TransportSettings,
    /// What is kept of what was read.
    cache: CacheSettings,
    /// What instances share limits and caches through.
    redis: RedisSettings,
    /// How mail is sent.
    mail: MailSettings,
    /// Outgoing webhooks.
    webhooks: WebhookSettings,
    /// Calls of other services.
    outbound: OutboundSettings,
    /// Where files are kept, and how much of them.
    files: FileSettings,
}

/// Every setting of the core, in the order of the reference.
pub static SETTINGS: &[Setting] = &joined::<{ count(SECTIONS) }>(SECTIONS);

const fn count(sections: &[Section]) -> usize {
    let (mut rows, mut at) = (0, 0);
    while at < sections.len() {
        rows += sections[at].rows.len();
        at += 1;
    }
    rows
}

/// The rows of all sections in one list. `N` is their [`count`].
const fn joined<const N: usize>(sections: &[Section]) -> [Setting; N] {
    let mut all = [Setting::named(""); N];
    let (mut filled, mut section) = (0, 0);
    while section < sections.len() {
        let mut row = 0;
        while row < sections[section].rows.len() {
            all[filled] = sections[section].rows[row];
            filled += 1;
            row += 1;
        }
        section += 1;
    }
    all
}
