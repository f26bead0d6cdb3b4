use crate::error_codes;

error_codes! {
    /// What enqueuing and steering jobs is refused with.
    pub JOB_ERRORS in job_codes {
        BACKLOG_FULL = "jobs.backlog_full", 503, "Too many jobs are waiting";
            "The tenant has as many waiting jobs as it may have.";
            "Try again after the time in Retry-After; or ask the operator to raise JOB_BACKLOG.";
        ARGUMENTS_TOO_LARGE = "jobs.arguments_too_large", 500, "Arguments too large";
            "A job's arguments, result or state are longer than 16 KiB.";
            "A fault of the module: it stores what is large, and lets the job refer to it.";
        GIVEN_UP = "jobs.given_up", 422, "The job cannot succeed";
            "The job has said itself that trying again is of no use.";
            "See the detail; mend the cause, and retry the job.";
    }
}
