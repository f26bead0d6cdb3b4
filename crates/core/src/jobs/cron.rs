//! When a schedule fires: a cron expression, which the compiler reads, in a time zone.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// How many days are searched for the next run, or the last: more than the eight years between two leap days around 2100.
const MOST_DAYS: usize = 3_700;

/// A cron expression: minute, hour, day of the month, month and day of the week, with blanks between them.
///
/// A field is `*`, a number, a range `a-b`, each of the first and the last also with a step (`*/15`, `8-18/2`), or several
/// of these with commas between them. Months and days of the week have their English names too (`jan`, `mon`), Sunday is 0
/// and 7, and `L` is the last day of a month. Where both kinds of days are restricted, either will do, as in crontab(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// One field: what it may hold, and what is said where it cannot be read.
struct CronField {
    first: u8,
    last: u8,
    names: &'static [u8],
    unreadable: &'static str,
}

const MINUTE: CronField = CronField {
    first: 0,
    last: 59,
    names: b"",
    unreadable: "The minute, the first of the five fields of a schedule's expression, cannot be read: write *, 0 to 59, \
        a range such as 0-29, a step such as */15, or several with commas",
};
const HOUR: CronField = CronField {
    first: 0,
    last: 23,
    names: b"",
    unreadable: "The hour, the second of the five fields of a schedule's expression, cannot be read: write *, 0 to 23, \
        a range such as 8-18, a step such as */2, or several with commas",
};
const DAY: CronField = CronField {
    first: 1,
    last: 31,
    names: b"",
    unreadable: "The day of the month, the third of the five fields of a schedule's expression, cannot be read: write *, \
        1 to 31, L for the last one, a range such as 1-7, a step such as */2, or several with commas",
};
const MONTH: CronField = CronField {
    first: 1,
    last: 12,
    names: b"janfebmaraprmayjunjulaugsepoctnovdec",
    unreadable: "The month, the fourth of the five fields of a schedule's expression, cannot be read: write *, 1 to 12, \
        jan to dec, a range such as 4-9, a step such as */3, or several with commas",
};
const WEEKDAY: CronField = CronField {
    first: 0,
    last: 7,
    names: b"sunmontuewedthufrisat",
    unreadable: "The day of the week, the last of the five fields of a schedule's expression, cannot be read: write *, 0 to 7, \
        sun to sat, a range such as mon-fri, or several with commas",
};
/// What `L` is among the days of a month.
const LAST_DAY: u8 = 32;
const EVERY_HOUR: u64 = (1 << 24) - 1;
const EVERY_DAY: u64 = (1 << 32) - 2;
const EVERY_WEEKDAY: u64 = (1 << 7) - 1;

impl Cron {
    /// Reads an expression; what is refused says what to write.
    pub(super) const fn read(text: &str) -> Result<Self, &'static str> {
        let text = text.as_bytes();
        let fields = [&MINUTE, &HOUR, &DAY, &MONTH, &WEEKDAY];
        let mut sets = [0; 5];
        let (mut at, mut number) = (0, 0);
        while number < fields.len() {
            if number > 0 {
                if at >= text.len() || text[at] != b' ' {
                    return Err(fields[number].unreadable);
                }
                at += 1;
            }
            match read_field(text, at, fields[number]) {
                Some((set, end)) => (sets[number], at) = (set, end),
                None => return Err(fields[number].unreadable),
            }
            number += 1;
        }
        if at != text.len() {
            return Err(
                "A schedule's expression has five fields with one blank between them: minute, hour, day of the month, \
                month and day of the week",
            );
        }
        let [minutes, hours, days, months, weekdays] = sets;
        let sunday = weekdays >> 7;
        Ok(Self { minutes, hours, days, months, weekdays: (weekdays | sunday) & EVERY_WEEKDAY })
    }

    /// Whether it fires on this day.
    fn is_on(&self, date: Date) -> bool {
        let in_set = |set: u64, number: i8| set >> number & 1 == 1;
        let last = self.days >> LAST_DAY & 1 == 1 && date.day() == date.days_in_month();
        let day = in_set(self.days, date.day()) || last;
        let weekday = in_set(self.weekdays, date.weekday().to_sunday_zero_offset());
        let either = self.days & EVERY_DAY != EVERY_DAY && self.weekdays != EVERY_WEEKDAY;
        in_set(self.months, date.month()) && if either { day || weekday } else { day && weekday }
    }

    /// The times of day at which it fires, each with its hour and minute.
    fn times(&self) -> impl Iterator<Item = (i8, i8)> {
        let hours = (0..24).filter(|hour| self.hours >> hour & 1 == 1);
        hours.flat_map(|hour| {
            (0..60).filter(|minute| self.minutes >> minute & 1 == 1).map(move |minute| (hour, minute))
        })
    }
}

/// The numbers of one field, as bits, and where it ends.
const fn read_field(text: &[u8], mut at: usize, field: &CronField) -> Option<(u64, usize)> {
    let mut set = 0;
    loop {
        let Some((part, end)) = read_part(text, at, field) else { return None };
        set |= part;
        at = end;
        if at == text.len() || text[at] == b' ' {
            return Some((set, at));
        }
        if text[at] != b',' {
            return None;
        }
        at += 1;
    }
}

/// `*`, `a` or `a-b`, the first and the last also with `/step`.
const fn read_part(text: &[u8], at: usize, field: &CronField) -> Option<(u64, usize)> {
    let (mut number, mut last, mut at) = (field.first, field.last, at);
    let mut step = 1;
    if at < text.len() && text[at] == b'*' {
        at += 1;
    } else {
        (number, at) = match read_value(text, at, field) {
            Some(read) => read,
            None => return None,
        };
        last = number;
    }
    let is_number = last == number;
    if is_number && at < text.len() && text[at] == b'-' {
        (last, at) = match read_value(text, at + 1, field) {
            Some(read) => read,
            None => return None,
        };
    }
    if at < text.len() && text[at] == b'/' && (!is_number || last != number) {
        (step, at) = match read_number(text, at + 1) {
            Some((step, end)) if step > 0 => (step, end),
            _ => return None,
        };
    }
    if number > last {
        return None;
    }
    let mut set = 0;
    while number <= last {
        set |= 1 << number;
        number += step;
    }
    Some((set, at))
}

/// A number or a name within the field's bounds.
const fn read_value(text: &[u8], at: usize, field: &CronField) -> Option<(u8, usize)> {
    if field.last == DAY.last && at < text.len() && text[at] == b'L' {
        return Some((LAST_DAY, at + 1));
    }
    if let Some((number, end)) = read_number(text, at) {
        return if number >= field.first && number <= field.last { Some((number, end)) } else { None };
    }
    let mut name = 0;
    while name * 3 < field.names.len() && at + 3 <= text.len() {
        let mut letter = 0;
        while letter < 3 && text[at + letter].to_ascii_lowercase() == field.names[name * 3 + letter] {
            letter += 1;
        }
        if letter == 3 {
            return Some((field.first + name as u8, at + 3));
        }
        name += 1;
    }
    None
}

/// One or two digits.
const fn read_number(text: &[u8], mut at: usize) -> Option<(u8, usize)> {
    let (mut number, begin) = (0, at);
    while at < text.len() && text[at].is_ascii_digit() && at < begin + 2 {
        number = number * 10 + (text[at] - b'0');
        at += 1;
    }
    if at > begin { Some((number, at)) } else { None }
}

/// An expression in its zone: the instants at which a schedule fires.
///
/// Where clocks are put forward, a run whose time of day is left out comes at the first instant after the gap, so that it
/// is not lost. Where they are put back, a run comes once, the first time that the clock shows its time; but one of an
/// expression for every hour comes as each hour passes.
#[derive(Debug, Clone)]
pub(super) struct Timetable {
    cron: Cron,
    zone: TimeZone,
}

impl Timetable {
    pub(super) fn new(cron: Cron, zone: TimeZone) -> Self {
        Self { cron, zone }
    }

    /// The first run after an instant; `None` where there is none in ten years.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let first_of = |day| self.runs_on(day).filter(|run| *run > after).min();
        let day = self.zone.to_datetime(after).date();
        let mut days = std::iter::successors(day.yesterday().ok(), |day| day.tomorrow().ok()).take(MOST_DAYS);
        let (day, first) = days.find_map(|day| Some((day, first_of(day)?)))?;
        // Clocks that are put back at midnight return to the day before.
        [Some(first), day.tomorrow().ok().and_then(first_of)].into_iter().flatten().min()
    }

    /// The last run at or before an instant.
    pub(super) fn last(&self, until: Timestamp) -> Option<Timestamp> {
        let last_of = |day| self.runs_on(day).filter(|run| *run <= until).max();
        let day = self.zone.to_datetime(until).date();
        let mut days = std::iter::successors(day.tomorrow().ok(), |day| day.yesterday().ok()).take(MOST_DAYS);
        let (day, last) = days.find_map(|day| Some((day, last_of(day)?)))?;
        [Some(last), day.yesterday().ok().and_then(last_of)].into_iter().flatten().max()
    }

    /// The runs whose date and time of day are on this day.
    fn runs_on(&self, day: Date) -> impl Iterator<Item = Timestamp> {
        let times = self.cron.is_on(day).then(|| self.cron.times()).into_iter().flatten();
        times.flat_map(move |(hour, minute)| self.instants(day, hour, minute)).flatten()
    }

    /// When a date and time of day is: once, and twice where clocks are put back and it is to come each time.
    fn instants(&self, day: Date, hour: i8, minute: i8) -> [Option<Timestamp>; 2] {
        let local = self.zone.to_ambiguous_timestamp(day.at(hour, minute, 0, 0));
        match local.offset() {
            AmbiguousOffset::Unambiguous { .. } => [local.compatible().ok(), None],
            AmbiguousOffset::Fold { .. } if self.cron.hours == EVERY_HOUR => {
                [local.earlier().ok(), local.later().ok()]
            }
            AmbiguousOffset::Fold { .. } => [local.earlier().ok(), None],
            AmbiguousOffset::Gap { .. } => {
                let before =
                    local.earlier().ok().and_then(|time| time.checked_sub(SignedDuration::from_secs(1)).ok());
                let change = before.and_then(|before| self.zone.following(before).next());
                [change.map(|change| change.timestamp()), None]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZoneDatabase;
    use proptest::prelude::*;

    use super::*;

    fn timetable(expression: &str, zone: &str) -> Timetable {
        let cron = Cron::read(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
        Timetable::new(cron, TimeZoneDatabase::bundled().get(zone).unwrap())
    }

    /// The next runs, as the clocks of the zone show them.
    fn runs(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let timetable = timetable(expression, zone);
        let next = std::iter::successors(timetable.next(from.parse().unwrap()), |run| timetable.next(*run));
        let shown =
            |run: Timestamp| run.to_zoned(timetable.zone.clone()).strftime("%m-%d %H:%M%:z").to_string();
        next.take(count).map(shown).collect()
    }

    #[test]
    fn a_run_at_the_end_of_summer_time_comes_once() {
        let zurich = runs("30 2 * * *", "Europe/Zurich", "2026-10-23T12:00:00Z", 3);
        assert_eq!(zurich, ["10-24 02:30+02:00", "10-25 02:30+02:00", "10-26 02:30+01:00"]);
        let several = runs("*/20 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00Z", 4);
        assert_eq!(
            several,
            ["10-25 02:00+02:00", "10-25 02:20+02:00", "10-25 02:40+02:00", "10-26 02:00+01:00"]
        );
        let lord_howe = runs("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T12:00:00Z", 3);
        assert_eq!(lord_howe, ["04-04 01:45+11:00", "04-05 01:45+11:00", "04-06 01:45+10:30"]);
    }

    #[test]
    fn a_run_at_its_begin_is_not_lost_and_comes_when_the_clocks_have_changed() {
        let zurich = runs("30 2 * * *", "Europe/Zurich", "2026-03-27T12:00:00Z", 3);
        assert_eq!(zurich, ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"]);
        let several = runs("0,30 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z", 2);
        assert_eq!(several, ["03-29 03:00+02:00", "03-30 02:00+02:00"], "one for all that are left out");
        let both = runs("0 2,3 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z", 2);
        assert_eq!(both, ["03-29 03:00+02:00", "03-30 02:00+02:00"]);
        let lord_howe = runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T12:00:00Z", 3);
        assert_eq!(lord_howe, ["10-03 02:15+10:30", "10-04 02:30+11:00", "10-05 02:15+11:00"]);
        let midnight = runs("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2);
        assert_eq!(midnight, ["11-04 01:00-02:00", "11-05 00:00-02:00"]);
        let day = runs("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3);
        assert_eq!(
            day,
            ["12-29 09:00-10:00", "12-31 00:00+14:00", "12-31 09:00+14:00"],
            "a day was left out"
        );
    }

    #[test]
    fn what_comes_every_hour_or_minute_comes_as_they_pass() {
        let autumn = runs("*/30 * * * *", "Europe/Zurich", "2026-10-25T00:10:00Z", 4);
        assert_eq!(
            autumn,
            ["10-25 02:30+02:00", "10-25 02:00+01:00", "10-25 02:30+01:00", "10-25 03:00+01:00"]
        );
        let spring = runs("*/30 * * * *", "Europe/Zurich", "2026-03-29T00:10:00Z", 3);
        assert_eq!(spring, ["03-29 01:30+01:00", "03-29 03:00+02:00", "03-29 03:30+02:00"]);
        // There the clocks went back at a minute past midnight, to the day before.
        let over_midnight = runs("*/30 * * * *", "America/St_Johns", "2010-11-07T01:40:00Z", 4);
        assert_eq!(
            over_midnight,
            ["11-06 23:30-02:30", "11-07 00:00-02:30", "11-06 23:30-03:30", "11-07 00:00-03:30"]
        );
    }

    #[test]
    fn short_months_leap_days_and_both_kinds_of_days() {
        let from = "2026-01-31T00:00:00Z";
        let on = |expression| {
            runs(expression, "UTC", from, 4).iter().map(|run| run[..5].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(on("0 0 31 * *"), ["03-31", "05-31", "07-31", "08-31"]);
        assert_eq!(on("0 0 L * *"), ["02-28", "03-31", "04-30", "05-31"]);
        assert_eq!(on("0 0 1,L feb-mar *"), ["02-01", "02-28", "03-01", "03-31"]);
        assert_eq!(on("0 0 * * MON-fri"), ["02-02", "02-03", "02-04", "02-05"]);
        assert_eq!(on("0 0 * * 7"), ["02-01", "02-08", "02-15", "02-22"]);
        assert_eq!(on("0 0 4 * sun"), ["02-01", "02-04", "02-08", "02-15"], "either will do");
        assert_eq!(on("0 0 */10 * *"), ["02-01", "02-11", "02-21", "03-01"]);
        let leap = timetable("0 0 29 2 *", "UTC");
        assert_eq!(leap.next("2096-03-01T00:00:00Z".parse().unwrap()), "2104-02-29T00:00:00Z".parse().ok());
        assert_eq!(timetable("0 0 31 2,4 *", "UTC").next(from.parse().unwrap()), None);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_what_to_write() {
        for (expression, field) in [
            ("", "The minute"),
            ("60 * * * *", "The minute"),
            ("*/0 * * * *", "The minute"),
            ("5/10 * * * *", "The minute"),
            ("30-20 * * * *", "The minute"),
            ("1,,2 * * * *", "The minute"),
            ("@daily", "The minute"),
            ("é * * * *", "The minute"),
            ("0 24 * * *", "The hour"),
            ("0", "The hour"),
            ("0  2 * * *", "The hour"),
            ("0 2 0 * *", "The day of the month"),
            ("0 2 32 * *", "The day of the month"),
            ("0 2 * 13 *", "The month"),
            ("0 2 * janu *", "The month"),
            ("0 2 * * 8", "The day of the week"),
            ("0 2 * * L", "The day of the week"),
            ("0 2 * *", "The day of the week"),
            ("0 0 2 * * *", "A schedule's expression"),
            ("0 2 * * * ", "A schedule's expression"),
        ] {
            let why = Cron::read(expression).expect_err(expression);
            assert!(why.starts_with(field), "{expression}: {why}");
        }
    }

    proptest! {
        #[test]
        fn walking_back_meets_the_runs_that_walking_forward_does(
            from in 1_262_304_000_i64..1_893_456_000,
            minute in prop_oneof!["\\*/(7|15|30)", "[0-5]?[0-9]", "0,30"],
            hour in prop_oneof!["\\*", "\\*/(2|5)", "1?[0-9]", "0-3"],
            day in prop_oneof!["\\*", "[1-9]", "L", "1-31/3"],
            weekday in prop_oneof!["\\*", "[0-7]", "mon-fri"],
            zone in prop::sample::select(vec!["UTC", "Europe/Zurich", "Australia/Lord_Howe", "America/St_Johns",
                "America/Havana", "Pacific/Apia", "Africa/Casablanca", "Asia/Kathmandu"]),
        ) {
            let timetable = timetable(&format!("{minute} {hour} {day} * {weekday}"), zone);
            let from = Timestamp::from_second(from).unwrap();
            let next = timetable.next(from).unwrap();
            prop_assert!(next > from);
            prop_assert_eq!(timetable.last(next), Some(next));
            let second = timetable.next(next).unwrap();
            let before = second.checked_sub(SignedDuration::from_secs(1)).unwrap();
            prop_assert_eq!(timetable.last(before), Some(next));
            prop_assert!(timetable.last(from).unwrap() <= from);
        }
    }
}
