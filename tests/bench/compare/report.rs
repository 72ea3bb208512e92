//! What was measured: medians of all rounds, and how far apart they are.

use std::fmt::Write;

use plotters::prelude::{
    BLACK, Color, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text,
    WHITE,
};
use serde_json::Value;

use crate::cases::{CASES, Case};
use crate::servers::Kind;

/// Of a picture, in pixels: a line's height, its width, where bars begin, how long one of 1 is.
const LINE: i32 = 18;
const WIDTH: i32 = 900;
const BEGIN: i32 = 200;
const ONE: f64 = 100.0;
const OURS: RGBColor = RGBColor(60, 110, 200);
const OTHERS: RGBColor = RGBColor(160, 160, 160);

/// What one measurement came to.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Of the server's processor, for each unit, in microseconds.
    pub(crate) processor: f64,
    /// Units a second.
    rate: f64,
    /// The longest time that an answer took, in microseconds.
    longest: f64,
}

impl Figures {
    pub(crate) fn new(talked: &Value, longest: f64) -> Self {
        let count = talked["count"].as_f64().unwrap();
        let seconds = talked["server_cpu_seconds"].as_f64().unwrap();
        let rate = talked["per_second"].as_f64().unwrap();
        Self { processor: seconds * 1e6 / count, rate, longest }
    }
}

/// Those of all rounds.
pub(crate) struct Results(Vec<(Kind, Vec<Figures>)>);

impl Results {
    pub(crate) fn add(&mut self, kind: Kind, figures: Figures) {
        match self.0.iter_mut().find(|(it, _)| *it == kind) {
            Some((_, all)) => all.push(figures),
            None => self.0.push((kind, vec![figures])),
        }
    }

    /// How much more than the first server's each server's processor was used, in each round.
    fn ratios(&self) -> impl Iterator<Item = (Kind, Spread)> {
        let floor = self.0.first().map_or(&[][..], |(_, first)| first);
        self.0.iter().map(move |(kind, all)| {
            let each = all.iter().zip(floor).map(|(it, floor)| it.processor / floor.processor);
            (*kind, Spread::of(each))
        })
    }
}

/// The median of some figures, the least and the most.
#[derive(Clone, Copy)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<_> = figures.collect();
        all.sort_by(f64::total_cmp);
        Self { median: all[all.len() / 2], least: all[0], most: all[all.len() - 1] }
    }
}

pub(crate) struct Report(Vec<(&'static Case, Results)>);

impl Report {
    /// Of the cases in whose title `only` is, and for which so many open files are enough.
    pub(crate) fn new(only: &str, files: u64) -> Self {
        let enough = |case: &&Case| {
            let enough = case.files() <= files;
            if !enough {
                println!("left out: {}, for want of {} open files", case.title, case.files());
            }
            enough
        };
        let cases = CASES.iter().filter(|case| case.title.contains(only)).filter(enough);
        Self(cases.map(|case| (case, Results(Vec::new()))).collect())
    }

    pub(crate) fn cases(&mut self) -> impl Iterator<Item = (&'static Case, &mut Results)> {
        self.0.iter_mut().map(|(case, results)| (*case, results))
    }

    /// Tables, in Markdown.
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
                let cpu = Spread::of(all.iter().map(|it| it.processor));
                let rate = Spread::of(all.iter().map(|it| it.rate)).median;
                let longest = Spread::of(all.iter().map(|it| it.longest)).median / 1e3;
                let size = *size as f64;
                let _ = writeln!(
                    text,
                    "| {} | {:.3} ({:.3} to {:.3}) | {:.2} | {:.2} ({:.2} to {:.2}) | {rate:.0} | {:.1} | {longest:.1} |",
                    kind.name(),
                    cpu.median,
                    cpu.least,
                    cpu.most,
                    cpu.median * 1e3 / size,
                    ratio.median,
                    ratio.least,
                    ratio.most,
                    rate * size / 1e6,
                );
            }
        }
        text
    }

    /// A picture of the ratios, as SVG.
    pub(crate) fn plot(&self) -> String {
        let mut lines = Vec::new();
        for (case, results) in &self.0 {
            lines.push((case.title.to_owned(), None));
            lines.extend(results.ratios().map(|(kind, ratio)| (kind.name(), Some(ratio))));
        }
        let height = LINE * (lines.len() as i32 + 1);
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32));
            let area = area.into_drawing_area();
            area.fill(&WHITE).unwrap();
            let font = |size: f64| ("sans-serif", size).into_font().color(&BLACK);
            for (line, (name, ratio)) in lines.into_iter().enumerate() {
                let top = LINE * line as i32 + LINE / 2;
                let Some(Spread { median, least, most }) = ratio else {
                    area.draw(&Text::new(name, (5, top + 3), font(14.0))).unwrap();
                    continue;
                };
                let end = |ratio: f64| BEGIN + ((ratio * ONE) as i32).min(WIDTH - BEGIN - 60);
                area.draw(&Text::new(name.clone(), (20, top + 4), font(12.0))).unwrap();
                let colour = if name.starts_with("ours") { OURS } else { OTHERS };
                area.draw(&Rectangle::new(
                    [(BEGIN, top + 3), (end(median), top + LINE - 3)],
                    colour.filled(),
                ))
                .unwrap();
                let middle = top + LINE / 2;
                let spread = [(end(least), middle), (end(most), middle)];
                area.draw(&PathElement::new(spread, BLACK)).unwrap();
                let text = format!("{median:.2}");
                area.draw(&Text::new(text, (end(most) + 6, top + 4), font(12.0))).unwrap();
            }
            area.present().unwrap();
        }
        svg
    }
}
