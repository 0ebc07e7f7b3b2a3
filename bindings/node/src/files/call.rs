//! One operation on files: a promise, and the thread that works for it. There are many and they are short, so they
//! have no signal of their own: packages/fs looks at it between them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use napi::bindgen_prelude::{JsValue, PromiseRaw, ToNapiValue};
use napi::{Env, JsDeferred};

use super::buffer::Target;
use crate::failure::Failure;
use crate::pool::{Kind, Pool};

type Settlement<R> = Box<dyn FnOnce(Env) -> napi::Result<R> + Send>;

/// Begins `work` on a thread, and `finish` with its outcome on the JavaScript thread.
fn begin_settling<T, R>(
    env: &Env,
    kind: Kind,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    finish: impl FnOnce(&Env, Result<T, Failure>) -> napi::Result<R> + Send + 'static,
) -> napi::Result<PromiseRaw<'_, R>>
where
    T: Send + 'static,
    R: ToNapiValue + Send + 'static,
{
    let (deferred, promise) = env.create_deferred::<R, Settlement<R>>()?;
    let promise = PromiseRaw::new(env.raw(), promise.raw());
    let settle = move |deferred: JsDeferred<R, Settlement<R>>, outcome| {
        deferred.resolve(Box::new(move |env| finish(&env, outcome)));
    };
    match Pool::get(kind) {
        Ok(pool) => {
            let job = move || {
                let outcome = catch_unwind(AssertUnwindSafe(work))
                    .unwrap_or_else(|payload| Err(Failure::panicked("a file operation", payload.as_ref())));
                settle(deferred, outcome);
            };
            // A queue without a bound takes every job.
            drop(pool.submit(Box::new(job)));
        }
        Err(error) => settle(deferred, Err(Failure::usage(format!("no thread could be started: {error}.")))),
    }
    Ok(promise)
}

/// Begins an operation.
pub(super) fn begin<R>(
    env: &Env,
    kind: Kind,
    work: impl FnOnce() -> Result<R, Failure> + Send + 'static,
) -> napi::Result<PromiseRaw<'_, R>>
where
    R: ToNapiValue + Send + 'static,
{
    begin_settling(env, kind, work, |env, outcome| outcome.map_err(|failure| failure.into_js(env)))
}

/// Begins an operation whose bytes go to `target`; resolves to how many went.
pub(super) fn begin_filling(
    env: &Env,
    kind: Kind,
    target: Target,
    work: impl FnOnce() -> Result<Vec<Bytes>, Failure> + Send + 'static,
) -> napi::Result<PromiseRaw<'_, u32>> {
    begin_settling(env, kind, work, move |env, outcome| match outcome {
        Ok(pieces) => target.fill(env, &pieces),
        Err(failure) => {
            target.fill(env, &[])?;
            Err(failure.into_js(env))
        }
    })
}
