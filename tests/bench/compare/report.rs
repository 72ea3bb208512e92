//! [`Report`]: medians and spreads of all rounds, as tables and as a chart.

use std::fmt::Write;

use plotters::prelude::{
    BLACK, Color, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text,
    WHITE,
};
use serde_json::Value;

use crate::case::{CASES, Case};
use crate::server::ServerKind;

/// Height of a line of the chart, in pixels. The following lengths are in pixels too.
const LINE_HEIGHT: i32 = 18;
/// Width of the chart.
const WIDTH: i32 = 900;
/// Where bars begin.
const BAR_START: i32 = 200;
/// Length of a bar of the ratio 1.
const UNIT_LENGTH: f64 = 100.0;
const OURS: RGBColor = RGBColor(60, 110, 200);
const OTHERS: RGBColor = RGBColor(160, 160, 160);

/// The result of one measurement.
#[derive(Clone, Copy)]
pub(crate) struct Measurement {
    /// Processor time of the server for each unit, in microseconds.
    pub(crate) cpu_time: f64,
    /// Units per second.
    rate: f64,
    /// The longest latency in microseconds.
    max_latency: f64,
}

impl Measurement {
    pub(crate) fn new(totals: &Value, max_latency: f64) -> Self {
        let count = totals["count"].as_f64().unwrap();
        let seconds = totals["server_cpu_seconds"].as_f64().unwrap();
        let rate = totals["per_second"].as_f64().unwrap();
        Self { cpu_time: seconds * 1e6 / count, rate, max_latency }
    }
}

/// The measurements of all rounds, by server.
pub(crate) struct Results(Vec<(ServerKind, Vec<Measurement>)>);

impl Results {
    pub(crate) fn add(&mut self, kind: ServerKind, measurement: Measurement) {
        match self.0.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, all)) => all.push(measurement),
            None => self.0.push((kind, vec![measurement])),
        }
    }

    /// The processor time of each server as a multiple of the first server's, round by round.
    fn ratios(&self) -> impl Iterator<Item = (ServerKind, Spread)> {
        let references = self.0.first().map_or(&[][..], |(_, first)| first);
        self.0.iter().map(move |(kind, all)| {
            let ratios = all
                .iter()
                .zip(references)
                .map(|(measurement, reference)| measurement.cpu_time / reference.cpu_time);
            (*kind, Spread::of(ratios))
        })
    }
}

/// Median, minimum and maximum.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<_> = values.collect();
        all.sort_by(f64::total_cmp);
        Self { median: all[all.len() / 2], min: all[0], max: all[all.len() - 1] }
    }
}

pub(crate) struct Report(Vec<(&'static Case, Results)>);

impl Report {
    /// A report on the cases whose title contains `filter`, and that need at most `max_files` open
    /// files.
    pub(crate) fn new(filter: &str, max_files: u64) -> Self {
        let can_run = |case: &&Case| {
            let files = case.open_files();
            if files > max_files {
                println!("skipped: needs {files} open files: {}", case.title);
            }
            files <= max_files
        };
        let cases = CASES.iter().filter(|case| case.title.contains(filter)).filter(can_run);
        Self(cases.map(|case| (case, Results(Vec::new()))).collect())
    }

    pub(crate) fn cases(&mut self) -> impl Iterator<Item = (&'static Case, &mut Results)> {
        self.0.iter_mut().map(|(case, results)| (*case, results))
    }

    /// Tables in Markdown.
    pub(crate) fn text(&self, rounds: usize) -> String {
        let mut text = format!(
            "Medians of {rounds} rounds, (least to most). Processor time is the server's; × is as a multiple \
             of the first line's, round by round.\n"
        );
        for (case, results) in &self.0 {
            let Case { title, unit, size, .. } = case;
            let _ = write!(
                text,
                "\n{title}\n\n| server | µs each {unit} | ns each byte | × | {unit}s a second | MB/s | longest, ms |\n\
                 |---|---|---|---|---|---|---|\n"
            );
            for ((kind, ratio), (_, all)) in results.ratios().zip(&results.0) {
                let cpu = Spread::of(all.iter().map(|measurement| measurement.cpu_time));
                let rate = Spread::of(all.iter().map(|measurement| measurement.rate)).median;
                let max_latency =
                    Spread::of(all.iter().map(|measurement| measurement.max_latency)).median / 1e3;
                let size = *size as f64;
                let _ = writeln!(
                    text,
                    "| {} | {:.3} ({:.3} to {:.3}) | {:.2} | {:.2} ({:.2} to {:.2}) | {rate:.0} | {:.1} | {max_latency:.1} |",
                    kind.name(),
                    cpu.median,
                    cpu.min,
                    cpu.max,
                    cpu.median * 1e3 / size,
                    ratio.median,
                    ratio.min,
                    ratio.max,
                    rate * size / 1e6,
                );
            }
        }
        text
    }

    /// A bar chart of the ratios, as SVG.
    pub(crate) fn plot(&self) -> String {
        let mut lines = Vec::new();
        for (case, results) in &self.0 {
            lines.push((case.title.to_owned(), None));
            lines.extend(results.ratios().map(|(kind, ratio)| (kind.name(), Some(ratio))));
        }
        let height = LINE_HEIGHT * (lines.len() as i32 + 1);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32));
            let area = area.into_drawing_area();
            area.fill(&WHITE).unwrap();
            let font = |size: f64| ("sans-serif", size).into_font().color(&BLACK);
            for (line, (name, ratio)) in lines.into_iter().enumerate() {
                let top = LINE_HEIGHT * line as i32 + LINE_HEIGHT / 2;
                let Some(Spread { median, min, max }) = ratio else {
                    area.draw(&Text::new(name, (5, top + 3), font(14.0))).unwrap();
                    continue;
                };
                let end = |ratio: f64| {
                    BAR_START + ((ratio * UNIT_LENGTH) as i32).min(WIDTH - BAR_START - 60)
                };
                area.draw(&Text::new(name.clone(), (20, top + 4), font(12.0))).unwrap();
                let colour = if name.starts_with("ours") { OURS } else { OTHERS };
                area.draw(&Rectangle::new(
                    [(BAR_START, top + 3), (end(median), top + LINE_HEIGHT - 3)],
                    colour.filled(),
                ))
                .unwrap();
                let middle = top + LINE_HEIGHT / 2;
                let spread = [(end(min), middle), (end(max), middle)];
                area.draw(&PathElement::new(spread, BLACK)).unwrap();
                let text = format!("{median:.2}");
                area.draw(&Text::new(text, (end(max) + 6, top + 4), font(12.0))).unwrap();
            }
            area.present().unwrap();
        }
        svg
    }
}
