//! What differs between development, staging and production beyond defaults: one table, read by the code.

use super::{Config, Environment, SettingsSchema};

/// The behaviour that belongs to an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// A problem carries its chain of causes, and a backtrace with `RUST_BACKTRACE=1`, as `debug`.
    pub error_detail: bool,
    /// A request's headers and its small JSON body are on lines of their own at level debug, credentials redacted.
    pub request_details: bool,
    /// While `CORS_ORIGINS` is empty, pages of this machine may call; else none may.
    pub local_origins: bool,
    /// The management surface answers everybody on the main port; else it wants its token.
    pub open_management: bool,
    /// Keys and passwords that are weak or copied from an example are accepted.
    pub weak_secrets: bool,
    /// Secrets that are missing are made into `DATA_DIR`; else the start is refused.
    pub generates_secrets: bool,
    /// The server migrates at its start; else pending migrations refuse the start.
    pub migrates_at_start: bool,
    /// `db seed` and the start may make the demo tenants.
    pub demo_tenants: bool,
    /// The banner is printed.
    pub banner: bool,
}

impl Profile {
    /// The table's column.
    pub const fn of(environment: Environment) -> Self {
        let development = matches!(environment, Environment::Development);
        Self {
            error_detail: development,
            request_details: development,
            local_origins: development,
            open_management: development,
            weak_secrets: development,
            generates_secrets: development,
            migrates_at_start: development,
            demo_tenants: !matches!(environment, Environment::Production),
            banner: development,
        }
    }

    fn rows(self) -> [(&'static str, bool); 9] {
        let Self {
            error_detail,
            request_details,
            local_origins,
            open_management,
            weak_secrets,
            generates_secrets,
            migrates_at_start,
            demo_tenants,
            banner,
        } = self;
        [
            ("Problems carry `debug`, the chain of causes", error_detail),
            (
                "At level debug a request's headers and small JSON body are logged, without credentials",
                request_details,
            ),
            ("Without `CORS_ORIGINS`, pages of this machine may call", local_origins),
            (
                "`/metrics`, `/health/detailed`, `/docs`, `/openapi.json` and `/log-level` answer everybody on the main port",
                open_management,
            ),
            ("Weak and example secrets are accepted", weak_secrets),
            ("Missing secrets are generated into `DATA_DIR`", generates_secrets),
            ("The server migrates when it starts", migrates_at_start),
            ("Demo tenants may be made", demo_tenants),
            ("The banner is printed", banner),
        ]
    }
}

impl Config {
    /// What differs in this process's environment.
    pub const fn profile(&self) -> Profile {
        Profile::of(self.process.app_env)
    }
}

/// The table of the reference: the profile's rows, then the settings whose default or need differs.
pub(super) fn render(schema: &SettingsSchema) -> String {
    let mut table = String::from("| | development | staging | production |\n| --- | --- | --- | --- |\n");
    let words = |yes: bool| if yes { "yes" } else { "no" };
    let columns =
        Environment::ALL.iter().map(|environment| Profile::of(*environment).rows()).collect::<Vec<_>>();
    for (row, (what, _)) in Profile::of(Environment::Development).rows().iter().enumerate() {
        let cells: Vec<_> = columns.iter().map(|column| words(column[row].1)).collect();
        table.push_str(&format!("| {what} | {} |\n", cells.join(" | ")));
    }
    for setting in schema.rows() {
        let cells: Vec<_> = Environment::ALL.iter().map(|environment| cell(setting, *environment)).collect();
        if cells.windows(2).any(|pair| pair[0] != pair[1]) {
            table.push_str(&format!("| `{}` | {} |\n", setting.name, cells.join(" | ")));
        }
    }
    table
}

fn cell(setting: &super::Setting, environment: Environment) -> &'static str {
    let required = setting.required_in.contains(&environment);
    setting.default.of(environment).unwrap_or(if required { "required" } else { "optional" })
}
