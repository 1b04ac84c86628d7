//! What every process tells of itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Kind, Metric, Metrics, label};
use crate::logging::LogCounts;
use crate::process_load::{ProcessLoad, Taken};

/// One look at all metrics takes less.
const SAME_MOMENT: Duration = Duration::from_millis(100);

const BUILD: Metric = Metric {
    name: "swift_s3_sync.build.info",
    kind: Kind::Gauge,
    unit: "{build}",
    help: "Always 1; its labels say which program of which version this is.",
    labels: &["service.name", "service.version"],
};
const CPU: Metric = Metric {
    name: "process.cpu.time",
    kind: Kind::Counter,
    unit: "s",
    help: "Processor time taken since the start.",
    labels: &[],
};
const MEMORY: Metric = Metric {
    name: "process.memory.usage",
    kind: Kind::Gauge,
    unit: "By",
    help: "Memory in use (resident set).",
    labels: &[],
};
const FILES: Metric = Metric {
    name: "process.unix.file_descriptor.count",
    kind: Kind::Gauge,
    unit: "{file_descriptor}",
    help: "Open files and sockets.",
    labels: &[],
};
const FILES_LIMIT: Metric = Metric {
    name: "swift_s3_sync.process.file_descriptor.limit",
    kind: Kind::Gauge,
    unit: "{file_descriptor}",
    help: "Files and sockets that may be open at a time.",
    labels: &[],
};
const UPTIME: Metric = Metric {
    name: "process.uptime",
    kind: Kind::Gauge,
    unit: "s",
    help: "Time since the start.",
    labels: &[],
};
const LINES: Metric = Metric {
    name: "swift_s3_sync.log.lines",
    kind: Kind::Counter,
    unit: "{line}",
    help: "Log lines written, by level.",
    labels: &["level"],
};
const LEFT_OUT: Metric = Metric {
    name: "swift_s3_sync.log.left_out",
    kind: Kind::Counter,
    unit: "{line}",
    help: "Warnings and errors not written because many of their kind came.",
    labels: &[],
};

/// See the module.
pub const PROCESS_METRICS: &[&Metric] =
    &[&BUILD, &CPU, &MEMORY, &FILES, &FILES_LIMIT, &UPTIME, &LINES, &LEFT_OUT];

/// Tells of this process from now on.
pub(crate) fn observe(metrics: &Metrics, name: &'static str, version: &'static str, counts: Arc<LogCounts>) {
    let meter = metrics.meter(PROCESS_METRICS);
    let build = [label("service.name", name), label("service.version", version)];
    BUILD.observe(&meter, move |seen| seen.observe(1, &build));
    let load = ProcessLoad::begin();
    let last = Arc::<Mutex<Option<(Instant, Taken)>>>::default();
    // Five metrics look at what is read once: it is of one moment, and listing all open files takes its time.
    let with = move |look: &dyn Fn(&Taken)| {
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(at, _)| at.elapsed() > SAME_MOMENT) {
            *last = load.read().map(|taken| (Instant::now(), taken));
        }
        if let Some((_, taken)) = &*last {
            look(taken);
        }
    };
    let read = with.clone();
    CPU.observe_f64(&meter, move |seen| read(&|taken| seen.observe(taken.cpu.as_secs_f64(), &[])));
    let read = with.clone();
    MEMORY.observe(&meter, move |seen| read(&|taken| seen.observe(taken.memory_bytes, &[])));
    let read = with.clone();
    FILES.observe(&meter, move |seen| read(&|taken| seen.observe(taken.open_files, &[])));
    let read = with.clone();
    FILES_LIMIT.observe(&meter, move |seen| read(&|taken| seen.observe(taken.max_open_files, &[])));
    UPTIME.observe_f64(&meter, move |seen| with(&|taken| seen.observe(taken.uptime.as_secs_f64(), &[])));
    let lines = Arc::clone(&counts);
    LINES.observe(&meter, move |seen| {
        for (level, count) in lines.lines() {
            seen.observe(count, &[label("level", level)]);
        }
    });
    LEFT_OUT.observe(&meter, move |seen| seen.observe(counts.left_out(), &[]));
}
