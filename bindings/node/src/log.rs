//! Log records of the engine on their way to JavaScript's log.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use napi::bindgen_prelude::{FnArgs, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Error, Status};
use napi_derive::napi;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

/// Records that wait for the JavaScript thread. Further ones are dropped and counted: logging never waits.
const QUEUED_RECORDS_MAX: usize = 1024;
/// Longer messages are cut.
const MESSAGE_MAX_BYTES: usize = 4096;

/// One record of the engine's log. It never holds names or contents of files in a mount.
#[napi(object)]
pub struct LogRecord {
    /// Milliseconds since 1970.
    pub time: f64,
    /// How grave it is.
    #[napi(ts_type = "'error' | 'warn' | 'info' | 'debug' | 'trace'")]
    pub level: String,
    /// The module that it comes from, such as `verfs_engine::recover`.
    pub target: String,
    /// One line.
    pub message: String,
}

type Record = FnArgs<(LogRecord,)>;
type Sink = ThreadsafeFunction<Record, (), Record, Status, false, true, QUEUED_RECORDS_MAX>;

static SINK: Mutex<Option<Sink>> = Mutex::new(None);
static DROPPED: AtomicU64 = AtomicU64::new(0);
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Sends the engine's log records of `level` and graver to `sink`, from now on and instead of an earlier sink.
/// It doesn't keep the process alive. Panics are records too. Other libraries have no say: they log names of files.
///
/// Throws when `level` is none, or another subscriber was installed in the process.
#[napi]
pub fn set_log_sink(
    #[napi(ts_arg_type = "'error' | 'warn' | 'info' | 'debug' | 'trace'")] level: String,
    #[napi(ts_arg_type = "(record: LogRecord) => void")] sink: Function<'_, Record, ()>,
) -> napi::Result<()> {
    let level: LevelFilter =
        level.parse().map_err(|_| Error::new(Status::InvalidArg, format!("{level} is not a log level")))?;
    let filter = Targets::new().with_target("verfs", level);
    let sink = sink
        .build_threadsafe_function::<Record>()
        .weak::<true>()
        .max_queue_size::<QUEUED_RECORDS_MAX>()
        .callee_handled::<false>()
        .build()?;
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
    if let Some(handle) = FILTER.get() {
        return handle.reload(filter).map_err(|error| Error::new(Status::GenericFailure, error.to_string()));
    }
    let (filter, handle) = reload::Layer::new(filter);
    let subscriber = tracing_subscriber::registry().with(SinkLayer.with_filter(filter));
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Error::new(Status::GenericFailure, error.to_string()))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), "{panic}");
    }));
    // Only this function, which runs on the JavaScript thread, sets it.
    drop(FILTER.set(handle));
    Ok(())
}

/// Hands every event to the sink.
struct SinkLayer;

impl<S: Subscriber> Layer<S> for SinkLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        send(*event.metadata().level(), event.metadata().target(), line.finish());
    }
}

fn send(level: Level, target: &str, mut message: String) {
    let sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(sink) = sink.as_ref() else {
        return;
    };
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        message = format!("({dropped} records before this one were dropped) {message}");
    }
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0);
    let record = LogRecord {
        time: millis.floor(),
        level: level.as_str().to_ascii_lowercase(),
        target: target.to_owned(),
        message,
    };
    if sink.call(FnArgs::from((record,)), ThreadsafeFunctionCallMode::NonBlocking) != Status::Ok {
        DROPPED.fetch_add(dropped + 1, Ordering::Relaxed);
    }
}

/// Collects the fields of an event: the message, then `name=value` for the others.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Line {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        if self.message.len() > MESSAGE_MAX_BYTES {
            let end = self.message.floor_char_boundary(MESSAGE_MAX_BYTES);
            self.message.truncate(end);
            self.message.push('…');
        }
        self.message.replace('\n', " ")
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String can't fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => self.fields.extend([" ", name, "=", value]),
        }
    }
}
