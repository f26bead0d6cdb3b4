use crate::error_codes;

error_codes! {
    /// What emitting is refused with.
    pub EVENT_ERRORS in event_codes {
        PAYLOAD_TOO_LARGE = "events.payload_too_large", 500, "Payload too large";
            "The payload of an event is longer than 16 KiB.";
            "A fault of the module: it tells of what is large by its id, and readers ask for the rest.";
    }
}
