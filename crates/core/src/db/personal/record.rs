//! The record of processing (GDPR, article 30), made from the register.

use std::fmt::Write as _;

use super::{PersonalData, RetentionDuty, Whose};

/// `docs/reference/personal-data.md`: what the tables of each module hold of people, why, and until when.
pub fn record_markdown<'a>(
    modules: impl Iterator<Item = (&'a str, &'a [PersonalData])>,
    duties: impl Iterator<Item = &'a RetentionDuty>,
) -> String {
    let mut page = String::from(
        "# Personal data\n\n<!-- Generated from the modules' tables: BLESS=1 script/test integration the_record_of_processing writes it. -->\n\n\
         The record of processing of the GDPR, article 30, as far as the product knows it; `erp-backend privacy record` prints it. Add who you are, \
         whom you have asked to work for you, and\nwhere the servers are. A tenant is the controller of what it keeps of its suppliers and members; who \
         runs the platform processes that for it.\n\n\
         *Whose* says how the rows of somebody are found: by the id of the subject, by a mail address, or since they mention the address.\n\
         What an erasure does: it deletes the row, or puts something else in place of the value. What a law wants to be kept stays as long as that law \
         wants it.\n\n\
         | module | columns | what they are | for | lawful by | kept | whose | erasure |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (module, data) in modules.flat_map(|(module, all)| all.iter().map(move |data| (module, data))) {
        let names: Vec<&str> = data.columns.iter().map(|column| column.name).collect();
        let mut categories: Vec<&str> = data.columns.iter().map(|column| column.category.as_str()).collect();
        categories.dedup();
        let _ = writeln!(
            page,
            "| {module} | `{}`: `{}` | {} | {} | {} | {} | {} | {} |",
            data.relation,
            names.join("`, `"),
            categories.join(", "),
            data.purpose,
            data.basis.as_str(),
            data.kept,
            whose(data.whose),
            erasure(data),
        );
    }
    page.push_str("\n## Laws that want data to be kept\n\n| duty | of | law |\n| --- | --- | --- |\n");
    for RetentionDuty { name, kind, law, .. } in duties {
        let _ = writeln!(page, "| `{name}` | {kind} | {law} |");
    }
    page
}

fn whose(whose: Whose) -> String {
    match whose {
        Whose::Id(kind, column) => format!("the {kind} of `{column}`"),
        Whose::Address(column) => format!("the address in `{column}`"),
        Whose::Mentioned => "the address that is mentioned".to_owned(),
        Whose::Nobody => "not found by subject".to_owned(),
    }
}

fn erasure(data: &PersonalData) -> &'static str {
    match (data.whose, data.deleted) {
        (Whose::Nobody, _) => "none",
        (_, true) => "deletes the row",
        (_, false) => "clears the columns",
    }
}
