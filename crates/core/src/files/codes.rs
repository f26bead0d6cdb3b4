use crate::error_codes;

error_codes! {
    /// What storing and reading files is refused with.
    pub FILE_ERRORS in file_codes {
        TOO_LARGE = "files.too_large", 413, "The file is too large";
            "The file has more bytes than its kind allows.";
            "Send a smaller file; the detail says how large it may be.";
        TYPE_NOT_ALLOWED = "files.type_not_allowed", 415, "This type of file is not taken";
            "Content-Type names none of the types that this kind of file may have.";
            "Send one of the types that the detail lists, and name it in Content-Type.";
        NOT_WHAT_IT_SAYS = "files.not_what_it_says", 422, "The file is not what it says";
            "The bytes of the file are not of the type that Content-Type names.";
            "Send the file under its own type, if that is allowed; or save it in the type that you mean to send.";
        DIGEST_MISMATCH = "files.digest_mismatch", 422, "The file was changed on its way";
            "The bytes that came do not have the SHA-256 that Content-Digest names.";
            "Send the file again; if it happens again, reckon the digest anew.";
        RANGE_NOT_SATISFIABLE = "files.range_not_satisfiable", 416, "Range not satisfiable";
            "The range of bytes that was asked for begins behind the end of the file.";
            "Ask without Range; the detail says how many bytes there are.";
        QUOTA_EXCEEDED = "files.quota_exceeded", 413, "No room for more files";
            "The tenant's files would take more than they may.";
            "Remove files that are not needed any more; or ask the operator for a larger quota.";
        STORE_UNAVAILABLE = "files.store_unavailable", 503, "Files cannot be reached";
            "The store of files does not answer, is full, or is not set up.";
            "Try again after the time in Retry-After; operators find the cause in the log.";
        DAMAGED = "files.damaged", 500, "The file is damaged";
            "The bytes of the file are missing from the store, or are not those that were stored.";
            "Ask the operator to restore the file from a backup; 'files verify' finds all such files.";
    }
}
