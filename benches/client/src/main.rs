//! One client of a file system: does one kind of work in a directory and prints `{"seconds":S,"units":N}`, with
//! `p50_us` and `p99_us` where it times each operation.
//!
//! The same program drives every file system of a benchmark, so that its own cost is the same for all.
//! `verfs-bench-client ROW DIRECTORY [ARGUMENT…]`; a row that needs files expects the row before it to have made them.
#![forbid(unsafe_code)]

mod content;
mod large;
mod small;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use content::Kind;

type Outcome = Result<Work, Box<dyn Error>>;

/// What a row did.
struct Work {
    units: u64,
    /// Absent where the whole row was the work.
    took: Option<Duration>,
    /// Of each operation, in order; empty where they weren't timed.
    latencies: Vec<Duration>,
}

impl Work {
    fn of(units: u64) -> Work {
        Work { units, took: None, latencies: Vec::new() }
    }

    fn that_took(took: Duration, units: u64) -> Work {
        Work { units, took: Some(took), latencies: Vec::new() }
    }

    fn with_latencies(mut latencies: Vec<Duration>) -> Work {
        latencies.sort_unstable();
        Work { units: latencies.len() as u64, took: None, latencies }
    }

    fn json(&self, elapsed: Duration) -> String {
        let seconds = self.took.unwrap_or(elapsed).as_secs_f64();
        let mut json = format!("{{\"seconds\":{seconds},\"units\":{}", self.units);
        if let Some(last) = self.latencies.len().checked_sub(1) {
            let [p50, p99] = [50, 99].map(|share| self.latencies[last * share / 100].as_micros());
            json.push_str(&format!(",\"p50_us\":{p50},\"p99_us\":{p99}"));
        }
        json.push('}');
        json
    }
}

/// The arguments behind the directory.
struct Arguments<'a>(std::slice::Iter<'a, String>);

impl Arguments<'_> {
    fn next<T: FromStr<Err: Error + 'static>>(&mut self, what: &str) -> Result<T, Box<dyn Error>> {
        Ok(self.0.next().ok_or_else(|| format!("{what} is missing"))?.parse()?)
    }

    fn time(&mut self) -> Result<Duration, Box<dyn Error>> {
        Ok(Duration::from_secs(self.next("how many seconds")?))
    }
}

fn run(row: &str, directory: &Path, mut arguments: Arguments) -> Outcome {
    match row {
        "write" => large::write(directory, "large", Kind::Half, arguments.next("a seed")?),
        "write-duplicate" => large::write(directory, "duplicate", Kind::Half, arguments.next("a seed")?),
        "write-prose" => large::write(directory, "prose", Kind::Prose, arguments.next("a seed")?),
        "read" => large::read(directory),
        "random-read" => large::random_read(directory),
        "random-write" => large::random_write(directory, arguments.next("a seed")?),
        "sustained-write" => large::sustained_write(directory, arguments.next("a seed")?, arguments.time()?),
        "append-fsync" => large::append_fsync(directory, arguments.next("how many clients")?),
        "fill" => large::fill(directory, arguments.next("how many files")?, arguments.next("a seed")?),
        "read-latency" => large::read_latency(directory, arguments.next("a seed")?, arguments.time()?),
        "create" => small::create(directory),
        "create-filled" => small::create_filled(directory),
        "read-filled" => small::read_filled(directory),
        "stat" => small::stat(directory),
        "rename" => small::rename(directory),
        "unlink" => small::unlink(directory),
        "untar" => small::untar(directory, &arguments.next::<String>("an archive")?),
        "find" => small::find(directory),
        "grep" => small::grep(directory),
        "copy" => small::copy(directory),
        "remove" => small::remove(directory),
        _ => Err(format!("unknown row {row}").into()),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, row, directory, rest @ ..] = &arguments[..] else {
        eprintln!("usage: verfs-bench-client ROW DIRECTORY [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let begun = Instant::now();
    match run(row, Path::new(directory), Arguments(rest.iter())) {
        Ok(work) => {
            println!("{}", work.json(begun.elapsed()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{row} in {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}
