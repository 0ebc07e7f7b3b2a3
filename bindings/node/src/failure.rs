//! Errors on their way to JavaScript: an `Error` with `code`, `message` and `path`.

use std::any::Any;

use napi::bindgen_prelude::{JsObjectValue, JsValue, Object};
use napi::{Env, Error, Status};
use verfs_engine::EngineError;

/// An error that can leave the thread on which it came up. `code` is one of the table in packages/errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: String,
    message: String,
    path: Option<String>,
    errno: Option<i32>,
}

impl Failure {
    /// An error number of the operating system, positive.
    pub fn system(errno: i32) -> Self {
        let message = std::io::Error::from_raw_os_error(errno).to_string();
        Self { code: "VERFS_SYSTEM".to_owned(), message, path: None, errno: Some(errno) }
    }

    /// Arguments that make no sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self { code: "VERFS_E_USAGE".to_owned(), message: what.into(), path: None, errno: None }
    }

    /// The caller's AbortSignal fired.
    pub fn cancelled(call: &str) -> Self {
        let message = format!("{call} was cancelled by its AbortSignal. Call again to do it.");
        Self { code: "VERFS_E_CANCELLED".to_owned(), message, path: None, errno: None }
    }

    /// A panic that was caught; `payload` is what it was raised with.
    pub fn panicked(call: &str, payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let message =
            format!("{call} failed by a defect of VerFS ({text}). Please report it together with the log file.");
        Self { code: "VERFS_E_INTERNAL".to_owned(), message, path: None, errno: None }
    }

    /// The error object to reject with. Only on the JavaScript thread.
    pub fn into_js(self, env: &Env) -> Error {
        match self.error_object(env) {
            Ok(object) => Error::from(object.to_unknown()),
            Err(error) => error,
        }
    }

    fn error_object<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        let mut object = env.create_error(Error::new(Status::GenericFailure, self.message.as_str()))?;
        object.set_named_property("code", self.code.as_str())?;
        if let Some(errno) = self.errno {
            object.set_named_property("errno", -errno)?;
        }
        if let Some(path) = &self.path {
            object.set_named_property("path", path.as_str())?;
        }
        Ok(object)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self {
            code: error.code().to_owned(),
            message: error.to_string(),
            path: error.path().map(|path| path.display().to_string()),
            errno: None,
        }
    }
}
