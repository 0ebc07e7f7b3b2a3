//! AbortSignals, by the methods that every one has: `addEventListener` and `removeEventListener`.
//!
//! (napi's own `AbortSignal` sets `onabort`, so that one signal could serve one call only.)

use napi::Env;
use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, JsObjectValue, Object};

type ListenerArgs<'env> = FnArgs<(&'static str, Function<'env, (), ()>)>;

/// A listener that is registered with a signal.
pub struct Listener {
    listener: FunctionRef<(), ()>,
    /// `removeEventListener` of the signal, bound to it.
    remove: FunctionRef<ListenerArgs<'static>, ()>,
}

/// A signal's state when a call begins.
pub enum Subscribed {
    /// It has fired: the call must not begin.
    Aborted,
    /// `on_abort` will be called when it fires, unless the listener is removed before.
    Listening(Listener),
}

/// Calls `on_abort` on the JavaScript thread when `signal` fires.
///
/// # Errors
/// When `signal` isn't an AbortSignal.
pub fn subscribe(env: &Env, signal: &Object<'_>, on_abort: impl Fn() + 'static) -> napi::Result<Subscribed> {
    if signal.get_named_property::<bool>("aborted")? {
        return Ok(Subscribed::Aborted);
    }
    let listener = env.create_function_from_closure::<(), (), _>("onAbort", move |_| {
        on_abort();
        Ok(())
    })?;
    let listener_ref = listener.create_ref()?;
    let method = signal.get_named_property::<Function<'_, ListenerArgs<'static>, ()>>("removeEventListener")?;
    let remove = method.bind(*signal)?;
    let add = signal.get_named_property::<Function<'_, ListenerArgs<'_>, ()>>("addEventListener")?;
    add.apply(*signal, FnArgs::from(("abort", listener)))?;
    Ok(Subscribed::Listening(Listener { listener: listener_ref, remove: remove.create_ref()? }))
}

impl Listener {
    /// Takes the listener off its signal. Only on the JavaScript thread.
    pub fn remove(self, env: &Env) -> napi::Result<()> {
        let listener = self.listener.borrow_back(env)?;
        self.remove.borrow_back(env)?.call(FnArgs::from(("abort", listener)))
    }
}
