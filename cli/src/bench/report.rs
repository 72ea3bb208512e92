//! The report of a measurement, as text, JSON and SVG.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use countersign_driver::Failure;
use hdrhistogram::Histogram;
use plotters::prelude::{
    BLACK, BLUE, ChartBuilder, IntoDrawingArea, IntoLogRange, LineSeries, RED, SVGBackend, WHITE,
};
use serde_json::{Value, json};

use crate::args::BenchArgs;

/// The percentiles that are printed.
const PERCENTILES: [f64; 4] = [50.0, 90.0, 99.0, 99.9];
/// The processor time from which its resolution of 10 ms is an error of at most 10 %.
const MIN_PROCESSOR_TIME: Duration = Duration::from_millis(100);
/// Width and height of the SVG, in pixels.
const SVG_SIZE: (u32, u32) = (800, 480);

/// A distribution of durations.
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Self {
        // Three significant digits; the range grows as needed.
        #[allow(clippy::unwrap_used, reason = "0 to 5 digits are valid")]
        Self(Histogram::new(3).unwrap())
    }

    pub(crate) fn add(&mut self, time: Duration) {
        // The range grows to fit any duration.
        let _ = self.0.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    /// In microseconds.
    fn percentile(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for percentile in PERCENTILES {
            let _ = write!(text, "p{percentile} {:.0} µs, ", self.percentile(percentile));
        }
        let _ = write!(text, "longest {:.0} µs", self.percentile(100.0));
        text
    }

    fn json(&self) -> Value {
        let named = PERCENTILES.map(|it| (format!("p{it}"), it));
        let all = named.into_iter().chain([("max".to_owned(), 100.0)]);
        all.map(|(name, it)| (name, Value::from(self.percentile(it)))).collect()
    }

    /// The points of its curve: (n, t) if one in n durations exceeds t microseconds.
    fn curve(&self) -> Vec<(f64, f64)> {
        let steps = self.0.iter_quantiles(8);
        let point = |quantile: f64, value: u64| (1.0 / (1.0 - quantile), value as f64 / 1e3);
        steps
            .take_while(|it| it.quantile_iterated_to() < 1.0)
            .map(|it| point(it.quantile_iterated_to(), it.value_iterated_to()))
            .collect()
    }
}

/// A phase of the measurement: its duration and the server's processor time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Phase {
    time: Duration,
    processor: Option<Duration>,
}

impl Phase {
    /// The phase from `begun` until now, with the server's processor time `before` and `after` it.
    pub(crate) fn over(begun: Instant, before: Option<Duration>, after: Option<Duration>) -> Self {
        let processor = before.zip(after).map(|(before, after)| after.saturating_sub(before));
        Self { time: begun.elapsed(), processor }
    }

    fn rate(&self, count: u64) -> f64 {
        count as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// The server's processor time for each of `count`, in microseconds, if it was long enough to be
    /// exact.
    fn each(&self, count: u64) -> Option<f64> {
        self.processor
            .filter(|time| *time >= MIN_PROCESSOR_TIME)
            .map(|time| time.as_secs_f64() * 1e6 / count.max(1) as f64)
    }

    fn json(&self, count: u64) -> Value {
        json!({
            "seconds": self.time.as_secs_f64(),
            "count": count,
            "per_second": self.rate(count),
            "server_cpu_seconds": self.processor.map(|time| time.as_secs_f64()),
            "server_cpu_us_each": self.each(count),
        })
    }
}

/// Everything that was measured.
pub(crate) struct Report {
    address: String,
    spoken: String,
    connections: u32,
    size: u32,
    /// The limit of unanswered messages on one connection, if there is one.
    pipeline: Option<u32>,
    every: Option<Duration>,
    buffer: u32,
    /// How long connecting and authenticating took, in the opening phase.
    pub(crate) handshakes: Times,
    pub(crate) opened: Phase,
    /// Likewise, with `--reconnect`.
    pub(crate) reconnects: Times,
    /// Messages that were answered.
    pub(crate) messages: u64,
    /// Messages without an answer when the time was over.
    pub(crate) unanswered: u64,
    pub(crate) latencies: Times,
    pub(crate) talked: Phase,
    /// Unexpected ends of connections: reason and count.
    failures: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(crate) fn new(args: &BenchArgs, scheme: &str, inside_tls: bool) -> Self {
        let inside = if inside_tls { " inside TLS" } else { "" };
        Self {
            address: args.address.to_string(),
            spoken: format!("{scheme}{inside}"),
            connections: args.connections,
            size: args.size,
            pipeline: args.every.is_none().then_some(args.pipeline),
            every: args.every,
            buffer: args.buffer,
            handshakes: Times::new(),
            opened: Phase::default(),
            reconnects: Times::new(),
            messages: 0,
            unanswered: 0,
            latencies: Times::new(),
            talked: Phase::default(),
            failures: BTreeMap::new(),
        }
    }

    /// Counts a connection that ended during the measurement.
    pub(crate) fn ended(&mut self, how: &Result<(), Failure<io::Error>>) {
        let why = match how {
            Ok(()) => return,
            Err(Failure::Io(_)) => countersign::Error::Transport.code(),
            Err(Failure::Protocol(error)) => error.code(),
        };
        *self.failures.entry(why).or_default() += 1;
    }

    /// Megabytes of messages per second, each way.
    fn megabytes(&self) -> f64 {
        self.talked.rate(self.messages) * f64::from(self.size) / 1e6
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.address, self.spoken);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "{name:12} {value}");
        };
        let cpu = |phase: &Phase, count| {
            let each = phase.each(count);
            each.map_or(String::new(), |each| format!("; server {each:.2} µs of CPU each"))
        };
        let (held, rate) = (self.handshakes.len(), self.opened.rate(self.handshakes.len()));
        line("connections", format!("{held} held, {rate:.0} a second{}", cpu(&self.opened, held)));
        line("", self.handshakes.text());
        let made = self.reconnects.len();
        if made > 0 {
            let rate = self.talked.rate(made);
            line("reconnected", format!("{made}, {rate:.0} a second{}", cpu(&self.talked, made)));
            line("", self.reconnects.text());
        }
        let (messages, rate) = (self.messages, self.talked.rate(self.messages));
        let (size, megabytes) = (self.size, self.megabytes());
        line(
            "messages",
            format!(
                "{messages} of {size} bytes answered, {rate:.0} a second, {megabytes:.1} MB/s each way{}",
                cpu(&self.talked, messages)
            ),
        );
        line("", self.latencies.text());
        if self.every.is_some() {
            line("", format!("{} without an answer at the end", self.unanswered));
        }
        for (why, count) in &self.failures {
            line("failed", format!("{count} connections: {why}"));
        }
        text
    }

    pub(crate) fn json(&self) -> String {
        let value = json!({
            "address": self.address,
            "spoken": self.spoken,
            "connections": self.connections,
            "size": self.size,
            "pipeline": self.pipeline,
            "every_seconds": self.every.map(|every| every.as_secs_f64()),
            "buffer": self.buffer,
            "opened": self.opened.json(self.handshakes.len()),
            "handshake_us": self.handshakes.json(),
            "reconnected": self.talked.json(self.reconnects.len()),
            "reconnect_us": self.reconnects.json(),
            "talked": self.talked.json(self.messages),
            "unanswered": self.unanswered,
            "megabytes_per_second": self.megabytes(),
            "latency_us": self.latencies.json(),
            "failed": self.failures,
        });
        format!("{value}\n")
    }

    /// Draws the latencies as SVG: the latency that one in n messages exceeds.
    pub(crate) fn plot(&self) -> Result<String, Box<dyn std::error::Error>> {
        let curves = [("messages", &self.latencies, BLUE), ("handshakes", &self.handshakes, RED)];
        let curves: Vec<_> =
            curves.iter().map(|(name, times, colour)| (*name, times.curve(), *colour)).collect();
        let points = || curves.iter().flat_map(|(_, curve, _)| curve);
        let (rarest, longest) = points().fold((10.0_f64, 10.0_f64), |(rare, long), point| {
            (rare.max(point.0), long.max(point.1))
        });
        let shortest = points().fold(longest, |short, point| short.min(point.1)).max(0.1);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SVG_SIZE).into_drawing_area();
            area.fill(&WHITE)?;
            let pace = match (self.pipeline, self.every) {
                (_, Some(every)) => format!("each every {every:?}"),
                (ahead, None) => format!("{} without an answer", ahead.unwrap_or_default()),
            };
            let title = format!(
                "{}: {} connections, {} bytes, {pace}",
                self.spoken, self.connections, self.size
            );
            let mut chart = ChartBuilder::on(&area)
                .caption(title, ("sans-serif", 18))
                .margin(10)
                .x_label_area_size(40)
                .y_label_area_size(70)
                .build_cartesian_2d(
                    (1.0..rarest).log_scale(),
                    (shortest..longest * 1.1).log_scale(),
                )?;
            chart.configure_mesh().x_desc("exceeded by one in").y_desc("µs").draw()?;
            for (name, curve, colour) in curves {
                chart.draw_series(LineSeries::new(curve, &colour))?.label(name).legend(
                    move |(x, y)| {
                        plotters::prelude::PathElement::new([(x, y), (x + 15, y)], colour)
                    },
                );
            }
            chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
            area.present()?;
        }
        Ok(svg)
    }
}
