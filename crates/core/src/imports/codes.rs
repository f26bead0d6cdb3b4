use crate::error_codes;

error_codes! {
    /// What imports are refused with.
    pub IMPORT_ERRORS in import_codes {
        COLUMNS = "imports.columns", 422, "The columns do not fit";
            "The first row of the file does not name the columns that a row has.";
            "See the detail, which names those that a row has; correct the first row and send the file again.";
    }
}
