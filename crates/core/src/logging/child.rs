use tracing::Span;
use tracing::instrument::{Instrument as _, Instrumented};

/// A context that applies to every line inside it, whatever it is called from; made by [`child!`](super::child).
///
/// It inherits the context in which it was made, so that children of children add up. Clones are the same context.
#[derive(Debug, Clone)]
pub struct Child(Span);

impl Child {
    /// Runs `work` in this context.
    pub fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.in_scope(work)
    }

    /// `work` in this context, across its awaits and whichever thread polls it.
    pub fn instrument<F: Future>(&self, work: F) -> Instrumented<F> {
        work.instrument(self.0.clone())
    }

    /// The span behind it.
    pub fn span(&self) -> &Span {
        &self.0
    }
}

impl From<Span> for Child {
    fn from(span: Span) -> Self {
        Self(span)
    }
}

/// A [`Child`] context with these fields; as `logging::child!`. The known ones are `module`, `action`, `tenant_id`,
/// `user_id` and `correlation_id`; any other is written behind them.
///
/// ```
/// use erp_core::logging;
/// # async fn sign_in() {}
/// # async fn example(tenant: &str) {
/// let auth = logging::child!(module = "auth", tenant_id = tenant);
/// auth.in_scope(|| tracing::debug!("Authentication attempt"));
/// auth.instrument(sign_in()).await;
/// # }
/// ```
#[macro_export]
macro_rules! log_child {
    ($($fields:tt)*) => {
        $crate::logging::Child::from($crate::logging::__tracing::info_span!("child", $($fields)*))
    };
}
