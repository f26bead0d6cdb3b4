/// One operation of the API, as its clients read it: its name and what it is for.
///
/// Parameters, body, answers, refusals and links come from the handler's arguments and its return type, from the route's
/// access rule and from the tables.
pub struct Operation {
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) about: &'static str,
}

impl Operation {
    /// `id` is the name of the function in generated clients: camelCase, unique, never changed. `summary` is a line
    /// without a full stop.
    pub const fn new(id: &'static str, summary: &'static str) -> Self {
        Self { id, summary, about: "" }
    }

    /// Whole sentences (CommonMark) on what the summary does not say.
    #[must_use]
    pub const fn about(mut self, about: &'static str) -> Self {
        self.about = about;
        self
    }
}
