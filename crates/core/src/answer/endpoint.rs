use axum::handler::Handler;

use super::{Answer, Outputs};
use crate::app::App;
use crate::extract::{Arguments, Input, Inputs};

/// A handler that describes itself: an async function of at most eight arguments, each an [`Input`], whose answer is an
/// [`Answer`].
///
/// `T` is the tuple that [`Handler`] has: a marker, then the arguments' types.
#[diagnostic::on_unimplemented(
    message = "this function is not a handler",
    label = "not a handler",
    note = "a handler is `async`, and its arguments are `Call`, `Caller`, `State<App>`, `Path<…>`, `Query<…>`, `Page<…>`, \
            `IfMatch` and others that implement `Input`; only the last one may be `Json<…>`, which reads the body",
    note = "it returns `Result<…>` of `Tagged<R>`, `Created<R>`, `Listed<L>`, `NoContent`, `Json<T>` or another `Answer`; \
            types within derive what these ask for: `JsonSchema`, and `Deserialize` or `Serialize`",
    note = "docs/guides/add-a-module.md, \"Errors of the compiler\""
)]
pub trait Endpoint<T>: Handler<T, App> {
    /// Adds what its arguments take.
    fn inputs(inputs: &mut Inputs);

    /// Adds what it answers.
    fn outputs(outputs: &mut Outputs);
}

impl<F, Fut, R> Endpoint<((),)> for F
where
    F: Handler<((),), App> + FnOnce() -> Fut,
    Fut: Future<Output = R>,
    R: Answer,
{
    fn inputs(_: &mut Inputs) {}

    fn outputs(outputs: &mut Outputs) {
        R::describe(outputs);
    }
}

macro_rules! endpoint {
    ($($argument:ident),+) => {
        impl<F, Fut, R, M, $($argument),+> Endpoint<(M, $($argument,)+)> for F
        where
            F: Handler<(M, $($argument,)+), App> + FnOnce($($argument),+) -> Fut,
            Fut: Future<Output = R>,
            R: Answer,
            M: 'static,
            $($argument: Input,)+
        {
            fn inputs(inputs: &mut Inputs) {
                <(M, $($argument,)+)>::describe(inputs);
            }

            fn outputs(outputs: &mut Outputs) {
                R::describe(outputs);
            }
        }
    };
}
endpoint!(A);
endpoint!(A, B);
endpoint!(A, B, C);
endpoint!(A, B, C, D);
endpoint!(A, B, C, D, E);
endpoint!(A, B, C, D, E, G);
endpoint!(A, B, C, D, E, G, H);
endpoint!(A, B, C, D, E, G, H, I);
