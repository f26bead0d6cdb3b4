//! What the tables of modules say, for people: pages of `docs/reference/`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Access, Module};
use crate::auth::{Counting, Role, TenantSettingFacts};
use crate::events::{EventFacts, SubscriberFacts};
use crate::jobs::{JobFacts, MissedRuns, Schedule, ScheduleScope};
use crate::mail::MailFacts;

/// `docs/reference/permissions.md`: what a role may do.
pub fn permissions_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# Permissions\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_permissions writes it. -->\n\n\
         What a member of a tenant may do there, by role. `GET /api/v1/me` lists the caller's own.\n\n\
         | permission | allows | roles |\n| --- | --- | --- |\n",
    );
    for permission in modules.flat_map(|module| module.permissions) {
        let roles = Role::ALL.into_iter().filter(|role| role.has(permission));
        let roles: Vec<&str> = roles.map(Role::as_str).collect();
        let _ = writeln!(page, "| `{}` | {} | {} |", permission.name, permission.what, roles.join(", "));
    }
    page
}

/// `docs/reference/tenants.md`: what each tenant sets for itself, what is on for some tenants and off for others, and
/// what is counted of them.
pub fn entitlements_markdown<'a>(modules: impl Iterator<Item = &'a Module> + Clone) -> String {
    let mut page = String::from(
        "# What tenants have\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_tenants writes it. -->\n\n\
         ## Settings\n\nWhat each tenant sets for itself, by `PUT /api/v1/settings/{name}`.\n\n\
         | setting | for | values | default | changed by |\n| --- | --- | --- | --- | --- |\n",
    );
    for facts in modules.clone().flat_map(|module| module.tenant_settings).map(|setting| setting.facts()) {
        let TenantSettingFacts { name, about, kind, default, changed_by, .. } = facts;
        let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
        let _ = writeln!(page, "| `{name}` | {about} | {kind} | {default} | `{}` |", changed_by.name);
    }
    page.push_str(
        "\n## Flags\n\nWhat is on for some tenants and off for others, by `erp-backend flag`.\n\n\
         | flag | where it is on | default | switch of a deployment |\n| --- | --- | --- | --- |\n",
    );
    for flag in modules.clone().flat_map(|module| module.flags) {
        let default = if flag.default { "on" } else { "off" };
        let _ = writeln!(page, "| `{}` | {} | {default} | `{}` |", flag.name, flag.about, flag.switch());
    }
    page.push_str(
        "\n## Meters\n\nWhat is counted of tenants. `GET /api/v1/usage` and `erp-backend usage` show it, and a plan can have a quota,\n\
         `erp-backend plan set PLAN --quota METER=N`. What is kept is counted by the transaction that adds or removes it, and is never\n\
         beyond its quota; what happens is gathered by each process and added every five seconds, and its quota is of a day in UTC.\n\n\
         | meter | counts | in | how | quota |\n| --- | --- | --- | --- | --- |\n",
    );
    for meter in modules.flat_map(|module| module.meters) {
        let (how, quota) = match meter.counting {
            Counting::Rows(_) => ("what is kept, exactly", "`core.over_quota`"),
            Counting::Bytes => ("what is kept, exactly", "`files.quota_exceeded`; else `FILES_TENANT_QUOTA`"),
            Counting::Happenings => ("what happens", "of a day: `core.quota_used_up`"),
            Counting::Unlimited => ("what happens", "none"),
        };
        let _ = writeln!(page, "| `{}` | {} | {} | {how} | {quota} |", meter.name, meter.about, meter.unit);
    }
    page
}

/// `docs/reference/routes.md`: every route with who may call it.
pub fn routes_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# Routes\n\n<!-- Generated from the modules' routes: BLESS=1 script/test integration the_reference_of_routes writes it. -->\n\n\
         Every path and method that is answered. HEAD is answered where GET is, OPTIONS on every path; another method \
         of a path is 405, another path 404. *Management* is everybody in development, elsewhere those who \
         reach `METRICS_PORT` or, while that is unset, hold `METRICS_TOKEN`; to others the route is not there. *Operators* have \
         signed in by `/api/v1/admin/auth/login`. The answer of one\n\
         that *shows a secret* has something that is not shown again.\n\n\
         | method | path | who may call it | module |\n| --- | --- | --- | --- |\n",
    );
    for route in modules.flat_map(|module| (module.routes)().of(module.name)) {
        let access = match route.access {
            Access::Public => "everybody".to_owned(),
            Access::Management => "management".to_owned(),
            Access::Operator => "operators".to_owned(),
            Access::SignedIn => "any member of a tenant".to_owned(),
            Access::Permission(permission) => format!("`{}`", permission.name),
        };
        let deprecated = route.deprecation().map_or(String::new(), |deprecation| format!("; {deprecation}"));
        let shows = if route.shows_secret { "; shows a secret" } else { "" };
        let _ = writeln!(
            page,
            "| {} | `{}` | {access}{shows}{deprecated} | {} |",
            route.method, route.path, route.module
        );
    }
    page
}

/// `docs/reference/schedules.md`: which jobs the clock enqueues.
pub fn schedules_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# Schedules\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_schedules writes it. -->\n\n\
         Which jobs the clock enqueues. *When* is a cron expression (minute, hour, day of the month, month, day of the week) by\n\
         the clocks of its zone. One process fires each run, by the clock of the database. A run that was *missed*, since no\n\
         worker was there within a minute of its time, comes late once however many were missed (`once`), each comes late but\n\
         no more than so many (`all`), or none does (`skipped`). [The guide](../guides/platform-services.md#schedules) tells\n\
         more.\n\n\
         | schedule | when | zone | job | for whom | missed | what it is for |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for schedule in modules.flat_map(|module| module.schedules) {
        let Schedule { name, about, expression, zone, scope, missed, .. } = schedule;
        let kind = schedule.kind().name;
        let scope = match scope {
            ScheduleScope::EachTenant => "each active tenant",
            ScheduleScope::Platform => "the platform",
        };
        let missed = match missed {
            MissedRuns::Once => "once".to_owned(),
            MissedRuns::All { at_most } => format!("all, at most {at_most}"),
            MissedRuns::Skipped => "skipped".to_owned(),
        };
        let _ = writeln!(
            page,
            "| `{name}` | `{expression}` | {zone} | `{kind}` | {scope} | {missed} | {about} |"
        );
    }
    page
}

/// `docs/reference/jobs.md`: the kinds of jobs.
pub fn jobs_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# Jobs\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_jobs writes it. -->\n\n\
         The kinds of work that is done later, with the name under which operators and metrics have them. *Attempts* are made in\n\
         all, each of which may take so long. Jobs of a lower priority number go first among those of their tenant. *At most* so\n\
         many run at a time in one tenant. A job has the permissions of the one who enqueued it, or does *work of the system*.\n\
         [The guide](../guides/platform-services.md#jobs) tells more.\n\n\
         | kind | of | what it does | attempts | time limit | priority | at most | threads of their own | work of the system |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (module, facts) in
        modules.flat_map(|module| module.jobs.iter().map(move |kind| (module, kind.facts())))
    {
        let JobFacts { name, about, attempts, time_limit, priority, at_most, threads, system } = facts;
        let at_most = at_most.map(|most| most.to_string()).unwrap_or_default();
        let threads = if *threads { "yes" } else { "" };
        let system = system.map(|work| format!("`{}`", work.name)).unwrap_or_default();
        let of = module.name;
        let _ = writeln!(
            page,
            "| `{name}` | {of} | {about} | {attempts} | {time_limit:?} | {priority} | {at_most} | {threads} | {system} |"
        );
    }
    page
}

/// `docs/reference/events.md`: the kinds of events, and who is told of them.
pub fn events_markdown<'a>(modules: impl Iterator<Item = &'a Module> + Clone) -> String {
    let mut page = String::from(
        "# Events\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_events writes it. -->\n\n\
         What happens to a tenant's documents and is told of: to subscribers in the product, to webhooks by this name, and at\n\
         `GET /api/v1/events`. [The guide](../guides/platform-services.md#events) tells more.\n\n\
         | event | of | what has happened | payload |\n| --- | --- | --- | --- |\n",
    );
    for (module, kind) in
        modules.clone().flat_map(|module| module.events.iter().map(move |kind| (module, kind)))
    {
        let EventFacts { name, about } = kind.facts();
        let schema = kind.schema();
        let fields = schema.get("properties").and_then(Value::as_object);
        let fields: Vec<String> =
            fields.into_iter().flat_map(|fields| fields.keys()).map(|field| format!("`{field}`")).collect();
        let _ = writeln!(page, "| `{name}` | {} | {about} | {} |", module.name, fields.join(", "));
    }
    page.push_str(
        "\n## Subscribers\n\nEach is a kind of job of the same name, one at a time in each tenant, and is told of events in \
         their order. An event\nthat fails is tried so often in all, each of which may take so long; then the subscriber \
         stops in that tenant.\n\n\
         | subscriber | of | event | what it does | attempts | time limit | a new one begins | work of the system |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (module, subscriber) in
        modules.flat_map(|module| module.subscribers.iter().map(move |subscriber| (module, subscriber)))
    {
        let SubscriberFacts { name, attempts, time_limit, from_start, .. } = subscriber.subscribes();
        let event = subscriber.subscribes().event().map_or("every".to_owned(), |event| format!("`{event}`"));
        let begins = if *from_start { "with what is kept" } else { "with the next" };
        let job = subscriber.facts();
        let work = job.system.map(|work| format!("`{}`", work.name)).unwrap_or_default();
        let (of, about) = (module.name, job.about);
        let _ = writeln!(
            page,
            "| `{name}` | {of} | {event} | {about} | {attempts} | {time_limit:?} | {begins} | {work} |"
        );
    }
    page
}

/// `docs/reference/mails.md`: the templates of mails.
pub fn mails_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# Mails\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_mails writes it. -->\n\n\
         What is sent to people, with the name under which operators and metrics have it. Somebody whose language a template has\n\
         not gets it in English. Recipients of *promotional* mails can unsubscribe with one click. What a *confidential* mail says\n\
         is shown to nobody, and is removed once it is sent. [The guide](../guides/platform-services.md#mail) tells more.\n\n\
         | mail | of | what it tells | languages | promotional | confidential |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let templates = modules.flat_map(|module| module.mails.iter().map(move |template| (module, template)));
    for (module, template) in templates {
        let MailFacts { name, about, promotional, confidential } = template.facts();
        let yes = |flag: &bool| if *flag { "yes" } else { "" };
        let (of, locales) = (module.name, template.locales().join(", "));
        let _ = writeln!(
            page,
            "| `{name}` | {of} | {about} | {locales} | {} | {} |",
            yes(promotional),
            yes(confidential)
        );
    }
    page
}

/// `docs/reference/states.md`: what becomes of documents, and by whom.
pub fn states_markdown<'a>(modules: impl Iterator<Item = &'a Module>) -> String {
    let mut page = String::from(
        "# States of documents\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_reference_of_states writes it. -->\n\n\
         In which state a step can be taken, where it leads, who may take it, and who may not because of an earlier step. The \
         audit log tells it by its name. PostgreSQL keeps to the same states (`app.states`), and a test compares both.\n\n\
         | step | from | to | permission | not by who has |\n| --- | --- | --- | --- | --- |\n",
    );
    for step in modules.flat_map(|module| module.states).flat_map(|states| states.transitions) {
        let from = step.from.join(", ");
        let unlike = step.earlier().join(", ");
        let to = step.to;
        let permission = step.permission.name;
        let _ = writeln!(page, "| `{}` | {from} | {to} | `{permission}` | {unlike} |", step.action);
    }
    page
}
