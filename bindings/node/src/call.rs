//! One call of JavaScript into the engine: a promise, the thread that works for it, and the signal that cancels it.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::{JsValue, Object, PromiseRaw, ToNapiValue};
use napi::{Env, JsDeferred};

use crate::failure::Failure;
use crate::pool::{Kind, Pool, run_apart};
use crate::signal::{Listener, Subscribed, subscribe};

type Settlement<T> = Box<dyn FnOnce(Env) -> napi::Result<T> + Send>;

/// A promise that is settled once, by its work or by its signal, whichever is first.
struct Pending<T: ToNapiValue + Send + 'static> {
    deferred: Mutex<Option<JsDeferred<T, Settlement<T>>>>,
    listener: Mutex<Option<Listener>>,
}

impl<T: ToNapiValue + Send + 'static> Pending<T> {
    fn is_settled(&self) -> bool {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Settles the promise with `outcome`; gives it back when that was done already.
    fn settle(self: &Arc<Self>, outcome: Result<T, Failure>) -> Result<(), Result<T, Failure>> {
        let taken = self.deferred.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(deferred) = taken else {
            return Err(outcome);
        };
        let pending = Arc::clone(self);
        deferred.resolve(Box::new(move |env| {
            let listener = pending.listener.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(listener) = listener {
                listener.remove(&env)?;
            }
            outcome.map_err(|failure| failure.into_js(&env))
        }));
        Ok(())
    }
}

/// Which thread works for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// One of a pool's: for calls that end by themselves.
    Pool(Kind),
    /// One of its own: for calls that wait for what others do.
    Apart,
}

/// A call, ready to begin.
pub struct Call<W, U> {
    /// As JavaScript calls it; for messages.
    pub name: &'static str,
    /// Where `work` runs.
    pub place: Place,
    /// The call itself. Not begun when the signal fires before.
    pub work: W,
    /// What is done with a result that nobody gets any more, because the signal fired while `work` ran.
    pub undo: U,
}

/// Whether anybody still waits for a call.
pub struct Wanted<'a>(&'a (dyn Fn() -> bool + Sync));

impl Wanted<'_> {
    /// For a work that can be broken off: asked between its pieces, says whether to go on.
    pub fn flow(&self) -> ControlFlow<()> {
        if (self.0)() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl<W, U> Call<W, U> {
    /// Begins the call and returns its promise.
    ///
    /// # Errors
    /// When `signal` isn't an AbortSignal, or a thread can't be started.
    pub fn begin<'env, T>(self, env: &'env Env, signal: Option<Object<'_>>) -> napi::Result<PromiseRaw<'env, T>>
    where
        T: ToNapiValue + Send + 'static,
        W: FnOnce() -> Result<T, Failure> + Send + 'static,
        U: FnOnce(T) + Send + 'static,
    {
        let Self { name, place, work, undo } = self;
        Call { name, place, work: move |_: &Wanted<'_>| work(), undo }.begin_watched(env, signal)
    }

    /// As [`Call::begin`], for a work that ends early when its signal fires.
    ///
    /// # Errors
    /// As [`Call::begin`].
    pub fn begin_watched<'env, T>(self, env: &'env Env, signal: Option<Object<'_>>) -> napi::Result<PromiseRaw<'env, T>>
    where
        T: ToNapiValue + Send + 'static,
        W: FnOnce(&Wanted<'_>) -> Result<T, Failure> + Send + 'static,
        U: FnOnce(T) + Send + 'static,
    {
        let Self { name, place, work, undo } = self;
        let (deferred, promise) = env.create_deferred::<T, Settlement<T>>()?;
        let promise = PromiseRaw::new(env.raw(), promise.raw());
        let pending = Arc::new(Pending { deferred: Mutex::new(Some(deferred)), listener: Mutex::new(None) });
        if let Some(signal) = signal {
            let aborted = Arc::clone(&pending);
            let on_abort = move || drop(aborted.settle(Err(Failure::cancelled(name))));
            match subscribe(env, &signal, on_abort) {
                Ok(Subscribed::Listening(listener)) => {
                    *pending.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener);
                }
                Ok(Subscribed::Aborted) => {
                    drop(pending.settle(Err(Failure::cancelled(name))));
                    return Ok(promise);
                }
                Err(error) => {
                    let what =
                        format!("{name}: the signal is not an AbortSignal ({}). Pass one, or nothing.", error.reason);
                    drop(pending.settle(Err(Failure::usage(what))));
                    return Ok(promise);
                }
            }
        }
        let worker = Arc::clone(&pending);
        let job = move || {
            if worker.is_settled() {
                return;
            }
            let is_wanted = || !worker.is_settled();
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&Wanted(&is_wanted))))
                .unwrap_or_else(|payload| Err(Failure::panicked(name, payload.as_ref())));
            if let Err(Ok(unwanted)) = worker.settle(outcome) {
                // The promise is rejected already; a panic here has nobody to go to but the log.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| undo(unwanted))) {
                    tracing::error!("{:?}", Failure::panicked(name, payload.as_ref()));
                }
            }
        };
        let refusal = match place {
            Place::Pool(kind) => match Pool::get(kind) {
                Ok(pool) => pool.submit(Box::new(job)).err().map(|_| "too many calls are waiting".to_owned()),
                Err(error) => Some(error.to_string()),
            },
            Place::Apart => run_apart("verfs-node-wait", job).err().map(|error| error.to_string()),
        };
        if let Some(reason) = refusal {
            let what = format!("{name} cannot begin: {reason}. Await the calls that were made before.");
            drop(pending.settle(Err(Failure::usage(what))));
        }
        Ok(promise)
    }
}
