//! What a statement does to which table, for metrics and logs.

/// The verb and the first table of a statement: `("select", "items")`.
///
/// Read from the text, which is the program's own: statements are `&'static str`.
pub fn describe(sql: &'static str) -> (&'static str, &'static str) {
    let operation = match sql.trim_start().get(..6).map(str::to_ascii_lowercase).as_deref() {
        Some("select") => "select",
        Some("insert") => "insert",
        Some("update") => "update",
        Some("delete") => "delete",
        _ => "other",
    };
    (operation, table(sql).unwrap_or("none"))
}

/// The first name after FROM, INTO or UPDATE; a query in parentheses is looked into.
fn table(sql: &'static str) -> Option<&'static str> {
    let mut words = sql.split_ascii_whitespace();
    loop {
        words.find(|word| ["from", "into", "update"].iter().any(|key| word.eq_ignore_ascii_case(key)))?;
        let word = words.next()?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let end = word.find(|c| !is_name(c)).unwrap_or(word.len());
        if let Some(name) = word.get(..end).filter(|name| !name.is_empty()) {
            return Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn statements_are_described_by_verb_and_table() {
        assert_eq!(describe("select a, b from items where id = $1"), ("select", "items"));
        assert_eq!(describe("\n  INSERT INTO items(sku) values ($1)"), ("insert", "items"));
        assert_eq!(describe("update items set sku = $1"), ("update", "items"));
        assert_eq!(describe("delete from items where id = $1"), ("delete", "items"));
        assert_eq!(describe("select 1"), ("select", "none"));
        assert_eq!(describe("select id from (select o.* from orders o) o"), ("select", "orders"));
    }
}
