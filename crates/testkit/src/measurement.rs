//! What a bench has measured, and what it is to be.

use std::io::{self, Write as _};

use serde_json::{Value, json};

/// One row of a bench's report.
#[derive(Debug, Clone, Copy)]
pub struct Measurement {
    /// What was measured.
    pub name: &'static str,
    /// How much it is.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is to be, if that is said.
    pub bound: Option<Bound>,
}

/// What a measurement is to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Measurement {
    /// A row that is to be `bound` at least.
    pub const fn at_least(name: &'static str, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { name, value, unit, bound: Some(Bound::AtLeast(bound)) }
    }

    /// A row that is to be `bound` at most.
    pub const fn at_most(name: &'static str, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { name, value, unit, bound: Some(Bound::AtMost(bound)) }
    }

    /// Whether it keeps its bound. What could not be measured, a NaN, keeps none.
    pub fn passed(&self) -> bool {
        match self.bound {
            Some(Bound::AtLeast(bound)) => self.value >= bound,
            Some(Bound::AtMost(bound)) => self.value <= bound,
            None => true,
        }
    }

    fn line(&self) -> String {
        let (sign, bound) = match self.bound {
            Some(Bound::AtLeast(bound)) => ("≥", bound),
            Some(Bound::AtMost(bound)) => ("≤", bound),
            None => return format!("{:<60} {:>10.1} {}", self.name, self.value, self.unit),
        };
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        format!("{:<60} {:>10.1} {:<7} {verdict} {sign} {bound}", self.name, self.value, self.unit)
    }

    fn json(&self) -> Value {
        let bound = self.bound.map(|bound| match bound {
            Bound::AtLeast(bound) | Bound::AtMost(bound) => bound,
        });
        json!({"name": self.name, "value": self.value, "unit": self.unit, "bound": bound, "passed": self.passed()})
    }
}

/// Prints them, one line each or as a JSON array; an error where one misses its bound, so that `main` ends with 1.
///
/// # Errors
/// Where standard output is closed, and for a missed bound.
pub fn report(measurements: &[Measurement], as_json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if as_json {
        let rows: Value = measurements.iter().map(Measurement::json).collect();
        writeln!(out, "{rows:#}")?;
    } else {
        measurements.iter().try_for_each(|measurement| writeln!(out, "{}", measurement.line()))?;
    }
    if measurements.iter().all(Measurement::passed) {
        Ok(())
    } else {
        Err(io::Error::other("a bound was missed"))
    }
}
