//! Statements of many kinds, with values of many types, right and wrong.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use erp_postgres::ToSql;

pub(super) const SCHEMA: &str = "compare";
/// What each session is told first.
pub(super) const SESSION: [&str; 2] = ["set search_path = compare, public", "set statement_timeout = '10s'"];

/// A small generator that repeats itself with its seed: xorshift64*.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % sides as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.roll(all.len())]
    }
}

/// What is done with both clients, one after the other.
pub(super) enum Step {
    Compare(Statement),
    /// Changes the schema behind their backs.
    Define(String),
    Forget,
}

pub(super) struct Statement {
    pub(super) sql: &'static str,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
    /// Read as a portal.
    pub(super) in_pieces: bool,
}

impl Statement {
    fn new(sql: String, values: Vec<Box<dyn ToSql + Sync + Send>>) -> Self {
        Self { sql: sql.leak(), values, in_pieces: false }
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {:?}, in pieces: {}", self.sql, self.values, self.in_pieces)
    }
}

/// Tables, types and functions that the statements use.
pub(super) fn schema() -> String {
    format!(
        "drop schema if exists {SCHEMA} cascade; create schema {SCHEMA}; set search_path = {SCHEMA};
         create type mood as enum ('sad', 'so so', 'ünï', e'two\\nlines', '');
         create domain small as int4 check (value < 100);
         create domain smaller as small check (value < 10);
         create domain word as text check (value <> 'never');
         create type pair as (a int4, b text);
         create type span as range (subtype = float8);
         drop schema if exists \"Odd Schema\" cascade; create schema \"Odd Schema\";
         create type \"Odd Schema\".\"Odd Type\" as enum ('x');
         create table t (id int4 primary key, n numeric, s text unique, m mood, w word,
            at timestamptz default '2020-01-01', check (n is null or n < 1000000));
         insert into t select i, i / 7.0, 's' || i, 'sad', 'w' from generate_series(1, 200) i;
         create table child (t int4 references t);
         insert into child values (1);
         create function fails(code text, message text) returns int language plpgsql as
            $$ begin raise exception using errcode = code, message = message, detail = 'because', hint = 'do not'; end $$;
         create function loud(i int) returns int language plpgsql as
            $$ begin raise notice 'loud %', i; return i; end $$;"
    )
}

/// Types with texts of theirs; the last text of each is not valid.
const TYPES: [(&str, &[&str]); 34] = [
    ("bool", &["t", "f", "yes", "maybe"]),
    ("int2", &["0", "-32768", "32767", "32768"]),
    ("int4", &["0", "-2147483648", "2147483647", "1e3"]),
    ("int8", &["0", "-9223372036854775808", "9223372036854775807", "x"]),
    ("float4", &["0", "-0", "NaN", "-Infinity", "1.17549435e-38", "1e400"]),
    ("float8", &["1e-300", "NaN", "Infinity", "3.141592653589793", "1e400"]),
    (
        "numeric",
        &[
            "0",
            "0.000",
            "NaN",
            "Infinity",
            "-1e-100",
            "123456789012345678901234567890.123456789",
            "1e1000",
            "1,5",
        ],
    ),
    ("numeric(10,2)", &["1.005", "-99999999.99", "99999999.995"]),
    ("money", &["1.00", "-92233720368547758.08", "much"]),
    (
        "text",
        &[
            "",
            "a",
            "ünï",
            "\u{1F600}\u{200D}",
            "e\u{301}",
            "\u{202E}x",
            "\u{10FFFF}",
            "'",
            "\\",
            "\n\t\r",
            "\u{FFFD}",
        ],
    ),
    ("varchar(3)", &["", "abc", "ü\u{1F600}x", "abcd"]),
    ("char(4)", &["", "a", "ä  "]),
    ("name", &["", "pg_type", "a name that is much longer than what fits into sixty-three bytes of it"]),
    ("bytea", &["", "\\x00ff", "\\001", "\\x0", "\\x0g"]),
    ("date", &["2000-01-01", "4713-01-01 BC", "5874897-12-31", "infinity", "-infinity", "2023-02-29"]),
    ("time", &["00:00", "24:00", "23:59:59.999999", "25:00"]),
    ("timetz", &["00:00+15:59", "12:34:56.789-03:30", "12:00 noon"]),
    (
        "timestamp",
        &["2000-01-01", "4713-01-01 BC", "294276-12-31 23:59:59.999999", "-infinity", "294277-01-01"],
    ),
    (
        "timestamptz",
        &[
            "1970-01-01Z",
            "4714-11-24 BC Z",
            "294276-12-31 23:59:59.999999Z",
            "infinity",
            "2024-06-30 23:59:60Z",
            "2024-13-01",
        ],
    ),
    ("interval", &["0", "1 year -3 days 04:05:06.789", "-178000000 years", "1 fortnight ago"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "x"]),
    ("inet", &["127.0.0.1", "10.1.2.3/8", "::", "2001:db8::1/64", "::ffff:1.2.3.4", "256.0.0.1"]),
    ("cidr", &["10.0.0.0/8", "::/0", "10.0.0.1/8"]),
    ("macaddr", &["08:00:2b:01:02:03", "x"]),
    ("json", &["null", "{\"a\": [1, 2.50, \"\\u00fc\"]}", "[]", "{"]),
    (
        "jsonb",
        &[
            "null",
            "{\"b\": 1, \"a\": [true, 1e5, \"\\u00fc\"], \"a\": {}}",
            "\"\"",
            "1e400",
            "\"\\u0000\"",
            "nul",
        ],
    ),
    ("point", &["(1,2)", "(NaN,-0)", "1"]),
    ("bit(3)", &["101", "1"]),
    ("varbit", &["", "10101010101", "2"]),
    ("int4range", &["empty", "[1,5)", "(,7]", "[5,1]"]),
    ("span", &["[0,1]", "(,)", "x"]),
    ("mood", &["sad", "ünï", "two\nlines", "", "glad"]),
    ("smaller", &["1", "-5", "50", "500"]),
    ("pair", &["(1,a)", "(,\"x, y\")", "(1)"]),
];

/// A text as SQL writes it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A text of a type; one that is none if `wrong`.
fn text_of<'a>(texts: &[&'a str], wrong: bool, dice: &mut Dice) -> &'a str {
    if wrong { texts[texts.len() - 1] } else { texts[dice.roll(texts.len().max(2) - 1)] }
}

/// A value of a type as SQL writes it.
fn value((kind, texts): (&str, &[&str]), dice: &mut Dice) -> String {
    let wrong = dice.roll(25) == 0;
    let one = |dice: &mut Dice| quoted(text_of(texts, wrong, dice));
    match dice.roll(10) {
        0 => format!("null::{kind}"),
        1 => format!("array[{}, null, {}]::{kind}[]", one(dice), one(dice)),
        2 => format!("'{{}}'::{kind}[]"),
        3 => format!("array[[{0}], [{1}]]::{kind}[]", one(dice), one(dice)),
        4 => format!("case when n % 2 = 0 then {}::{kind} end", one(dice)),
        5 => format!("coalesce(null::{kind}, {}::{kind})", one(dice)),
        _ => format!("{}::{kind}", one(dice)),
    }
}

const FORMULAS: [&str; 22] = [
    "n / (n - 3)",
    "2147483646 + n",
    "9223372036854775806::int8 + n",
    "sqrt(2 - n)",
    "ln((n - 1)::numeric)",
    "repeat('ü', n * 1000)",
    "md5(n::text)::uuid",
    "jsonb_build_object('n', n, 'x', null)",
    "('{\"a\": {\"b\": [1, 2]}}'::jsonb) #> array['a', 'b']",
    "to_char('epoch'::timestamptz + n * interval '1 year', 'YYYY TZ')",
    "'2000-01-01'::timestamptz + n * interval '100000 years'",
    "loud(n)",
    "int4range(n, 5)",
    "row(n, 'x')::pair",
    "row(n, 'x')",
    "array(select generate_series(1, n))",
    "(select id from t)",
    "(select s from t where id = n)",
    "n::smaller",
    "chr(n * 100000)",
    "convert_from('\\xff'::bytea, 'UTF8')",
    "'x'::\"Odd Schema\".\"Odd Type\"",
];

/// What is refused, and at which time does not matter.
const WRONG: [&str; 26] = [
    "select",
    "selec 1",
    "select 1 from",
    "select nothing from t",
    "select * from nowhere",
    "select t.id, s.id from t, t as s where id = 1",
    "select nofunction(1)",
    "select 1 + 'a'::text",
    "select 'open",
    "select $1 + $2",
    "select * from t where id = 'x'",
    "insert into t (id, s) values (1, 'again')",
    "insert into t (id, s) values (-1, 's1')",
    "insert into t (id, n) values (-2, 1000000)",
    "insert into child values (-5)",
    "delete from t where id = 1",
    "insert into t (id, w) values (-3, 'never')",
    "insert into t (id) values (null)",
    "select fails('ABC12', 'of its own ünï')",
    "select fails('40001', '')",
    "select fails('57014', 'as if cancelled')",
    "select relacl from pg_class limit 1",
    "select 1 union select 'a'",
    "update t set id = id + 1",
    "select (1, 2) = (1, 2, 3)",
    "vacuum",
];

const CHANGES: [&str; 6] = [
    "insert into t (id, s) select 1000 + n, 'new' || n from generate_series(1, 5) n returning *",
    "update t set n = n + 1, m = 'ünï' where id % 50 = 0 returning id, n, m",
    "delete from t where id > 190 returning s",
    "with gone as (delete from child returning t) select count(*) from gone",
    "insert into t (id, s) values (1, 'again') on conflict (id) do update set s = excluded.s returning *",
    "values (1, 'a'), (2, null)",
];

/// The next steps: most are one statement, used several times.
pub(super) fn steps(dice: &mut Dice) -> Vec<Step> {
    match dice.roll(20) {
        0..9 => repeated(dice, |dice| Statement::new(select(dice), Vec::new())),
        9..14 => with_parameters(dice),
        14..16 => repeated(dice, |dice| Statement::new((*dice.of(&WRONG)).to_owned(), Vec::new())),
        16 => repeated(dice, |dice| Statement::new((*dice.of(&CHANGES)).to_owned(), Vec::new())),
        17..19 => in_pieces(dice),
        _ => redefined(dice),
    }
}

/// A statement, and at times the same again: prepared, described, and by and by planned without its values.
fn repeated(dice: &mut Dice, make: impl Fn(&mut Dice) -> Statement) -> Vec<Step> {
    let statement = make(dice);
    let (sql, times) = (statement.sql, *dice.of(&[0, 0, 1, 2, 7]));
    let mut steps = vec![Step::Compare(statement)];
    steps.extend((0..times).map(|_| Step::Compare(Statement { sql, values: Vec::new(), in_pieces: false })));
    steps
}

fn select(dice: &mut Dice) -> String {
    let mut sql = "select ".to_owned();
    for at in 0..=dice.roll(5) {
        let formula =
            if dice.roll(5) == 0 { (*dice.of(&FORMULAS)).to_owned() } else { value(*dice.of(&TYPES), dice) };
        let comma = if at == 0 { "" } else { ", " };
        // At times columns of one name, or without one.
        match dice.roll(8) {
            0 => write!(sql, "{comma}{formula}"),
            1 => write!(sql, "{comma}{formula} as \"Ünï \"\"c\"\"\""),
            _ => write!(sql, "{comma}{formula} as c{at}"),
        }
        .unwrap();
    }
    write!(sql, " from generate_series(1, {}) n", dice.roll(6)).unwrap();
    sql
}

type Value = Box<dyn ToSql + Sync + Send>;

/// A parameter as it stands in SQL, and a value for it that may not fit.
fn parameter(number: usize, dice: &mut Dice) -> (String, Value) {
    let integers = [0, 1, -1, i32::MAX, i32::MIN];
    let texts = TYPES[9].1;
    let text = |dice: &mut Dice| (*dice.of(texts)).to_owned();
    let (kind, value): (&str, Value) = match dice.roll(18) {
        0 => ("bool", Box::new(*dice.of(&[Some(true), Some(false), None]))),
        1 => ("int2", Box::new(*dice.of(&[0, -1, i16::MAX, i16::MIN]))),
        2 => ("int4", Box::new(*dice.of(&integers))),
        3 => ("int8", Box::new(*dice.of(&[0, i64::MAX, i64::MIN]))),
        4 => ("float4", Box::new(*dice.of(&[0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE]))),
        5 => ("float8", Box::new(*dice.of(&[0.0, f64::NAN, f64::NEG_INFINITY, f64::MAX]))),
        6 => ("text", Box::new(text(dice))),
        7 => ("text", Box::new("nul\0inside".to_owned())),
        8 => ("bytea", Box::new([0_u8, 0xff, 0x27, 0x5c].repeat(dice.roll(2000)))),
        9 => ("uuid", Box::new(uuid::Uuid::from_u128(u128::from(dice.0) << 64 | u128::from(dice.0)))),
        10 => ("inet", Box::new("2001:db8::7".parse::<IpAddr>().unwrap())),
        11 => {
            let far = Duration::from_secs(dice.roll(300_000 * 31_557_600) as u64);
            ("timestamptz", Box::new(SystemTime::UNIX_EPOCH + far))
        }
        12 => ("jsonb", Box::new(serde_json::json!({ "ü": [1, null, text(dice).replace('\u{0}', "")] }))),
        13 => ("int4[]", Box::new(vec![Some(*dice.of(&integers)), None])),
        14 => ("text[]", Box::new(vec![text(dice), text(dice)])),
        15 => ("int4", Box::new(None::<i32>)),
        16 => ("smaller", Box::new(*dice.of(&[1, 50, 500]))),
        _ => ("int4", Box::new(text(dice))), // of the wrong type: it is not sent
    };
    let cast = match dice.roll(6) {
        0 => String::new(), // its type follows, or does not
        _ => format!("::{kind}"),
    };
    (format!("${number}{cast}"), value)
}

fn with_parameters(dice: &mut Dice) -> Vec<Step> {
    if dice.roll(3) == 0 {
        return from_text(dice);
    }
    let count = 1 + dice.roll(4);
    let mut sql = "select ".to_owned();
    let mut values = Vec::new();
    for number in 1..=count {
        let (text, value) = parameter(number, dice);
        write!(sql, "{text} as c{number}, ").unwrap();
        values.push(value);
    }
    sql += "n from generate_series(1, 3) n";
    if dice.roll(25) == 0 {
        values.pop(); // one too few
    }
    vec![Step::Compare(Statement::new(sql, values))]
}

/// A value that the server reads from a text, again with other texts.
fn from_text(dice: &mut Dice) -> Vec<Step> {
    let (kind, texts) = *dice.of(&TYPES);
    let sql: &'static str = format!("select $1::text::{kind} as c, $1::text as t").leak();
    let statement = |dice: &mut Dice| {
        let wrong = dice.roll(6) == 0;
        let value = if dice.roll(8) == 0 { None } else { Some(text_of(texts, wrong, dice).to_owned()) };
        Step::Compare(Statement { sql, values: vec![Box::new(value)], in_pieces: false })
    };
    (0..=dice.roll(7)).map(|_| statement(dice)).collect()
}

/// More rows than a portal gives at a time, and at times an error among them.
fn in_pieces(dice: &mut Dice) -> Vec<Step> {
    let rows = *dice.of(&[0, 1, 31, 32, 33, 100, 1031, 1500]);
    let column = match dice.roll(4) {
        0 => format!("1 / (n - {})", dice.roll(2000)),
        1 => "repeat('x', n)".to_owned(),
        2 => "case when n % 3 = 0 then null else n end".to_owned(),
        _ => value(*dice.of(&TYPES), dice),
    };
    let sql = format!("select n, {column} as c from generate_series(1, {rows}) n");
    vec![Step::Compare(Statement { in_pieces: true, ..Statement::new(sql, Vec::new()) })]
}

/// A prepared statement whose tables change under it.
fn redefined(dice: &mut Dice) -> Vec<Step> {
    let name = format!("r{}", dice.roll(1_000_000_000));
    let sql: &'static str = format!("select * from {name} where id >= $1").leak();
    let again =
        |value: i32| Step::Compare(Statement { sql, values: vec![Box::new(value)], in_pieces: false });
    let change = match dice.roll(7) {
        0 => format!("alter table compare.{name} add column more text default 'x'"),
        1 => format!("alter table compare.{name} drop column s"),
        2 => format!("alter table compare.{name} alter column s type varchar(7)"),
        3 => format!("alter table compare.{name} alter column id type int8"),
        4 => format!("alter table compare.{name} rename column s to z"),
        5 => format!("drop table compare.{name}"),
        _ => format!("create index on compare.{name} (s)"), // which changes nothing
    };
    let create = format!(
        "create table compare.{name} (id int4, s text, m compare.mood[]);
         insert into compare.{name} values (1, 'a', '{{sad,ünï}}'), (2, null, null)"
    );
    vec![
        Step::Define(create),
        again(1),
        again(2),
        Step::Define(change),
        again(1),
        again(1),
        Step::Forget,
        again(1),
        again(3),
    ]
}
