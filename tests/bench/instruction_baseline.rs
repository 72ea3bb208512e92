//! Compares instruction counts with the baseline in `instructions.txt`.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fmt, fs};

/// How far a count may differ in either direction, with the tools that the file names. Without a
/// change of the code, counts are equal to the instruction, in any directory. The tolerance is for
/// what a change makes the compiler do to other code.
const TOLERANCE: f64 = 0.03;
/// How much larger a count may be with other tools than the file names: more than a different
/// compiler alone would cause.
const TOLERANCE_WITH_OTHER_TOOLS: f64 = 0.5;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions.txt");
const RENEW: &str = "cargo bench -p countersign-tests --bench instructions -- --renew";

/// The instructions of each benchmark, and the tools that the counts depend on.
struct InstructionCounts {
    tools: String,
    /// By name of the benchmark.
    counts: BTreeMap<String, u64>,
}

/// Counts the instructions of this program's benchmarks, and compares them with the file. With
/// `--renew` in `args`, writes the file instead.
pub(crate) fn compare(args: &[String]) -> ExitCode {
    // `cargo test` runs this program without `--bench`.
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let tools = match tools() {
        Ok(tools) => tools,
        Err(missing) => {
            println!("skipped: needs {missing}");
            // In CI nothing may be skipped.
            return ExitCode::from(u8::from(env::var_os("COUNTERSIGN_NO_SKIP").is_some()));
        }
    };
    let Some(now) = count(tools) else {
        println!("instructions could not be counted: see the output of gungraun-runner above");
        return ExitCode::FAILURE;
    };
    if args.iter().any(|arg| arg == "--renew") {
        fs::write(FILE, now.to_string()).unwrap();
        println!("{} counts are in {FILE}", now.counts.len());
        return ExitCode::SUCCESS;
    }
    let baseline = InstructionCounts::parse(&fs::read_to_string(FILE).unwrap());
    println!("{:<44}{:>10}{:>10}", "instructions", "now", "in file");
    for (name, &count) in &now.counts {
        print!("{name:<44}{count:>10}");
        match baseline.counts.get(name) {
            Some(&baseline) => println!("{baseline:>10}{:>+8.1} %", percent_more(count, baseline)),
            None => println!("{:>10}", "-"),
        }
    }
    let wrong = now.differences(&baseline);
    if now.tools != baseline.tools {
        println!("The file was made with other tools. Counts may differ for this reason, and fail");
        println!(
            "only if they are {:.0} % larger on the same kind of processor.",
            100.0 * TOLERANCE_WITH_OTHER_TOOLS
        );
        println!("    in file: {}\n    now:     {}", baseline.tools, now.tools);
    }
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    wrong.iter().for_each(|wrong| println!("{wrong}"));
    println!("If this is intended, renew the file and commit it with the change:\n    {RENEW}");
    ExitCode::FAILURE
}

/// By how many percent `count` is larger than `baseline`.
fn percent_more(count: u64, baseline: u64) -> f64 {
    100.0 * (count as f64 / baseline as f64 - 1.0)
}

/// What the counts depend on besides our code. An error is the name of a program that is missing.
fn tools() -> Result<String, &'static str> {
    let version = |program, argument| {
        let output = Command::new(program).arg(argument).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success()).ok_or(program)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    version("gungraun-runner", "--version")?;
    let valgrind = version("valgrind", "--version")?;
    // The C library chooses its copying functions by the processor that valgrind emulates, which is
    // the same on every processor with AVX2.
    let libc = version("getconf", "GNU_LIBC_VERSION").unwrap_or_default();
    let avx2 = fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains(" avx2"));
    let processor = if avx2 { "AVX2" } else { env::consts::ARCH };
    Ok(format!("{}, {libc}, {valgrind}, {processor}", env!("COUNTERSIGN_TESTS_RUSTC")))
}

/// Counts the instructions: starts this program as gungraun's front end. `None` if that fails.
fn count(tools: String) -> Option<InstructionCounts> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--output-format=json", "--bench"]).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    // Each line of the output describes a benchmark.
    let parse = |line: &str| {
        let summary: serde_json::Value = serde_json::from_str(line).ok()?;
        let field = |key| summary[key].as_str();
        let name = format!("{}::{}::{}", field("group")?, field("function_name")?, field("id")?);
        let metrics = &summary["profiles"][0]["data"]["total"]["metrics"];
        Some((name, metrics["Ir"]["values"]["new"].as_u64()?))
    };
    let counts: Option<BTreeMap<_, _>> =
        String::from_utf8_lossy(&output.stdout).lines().map(parse).collect();
    let counts = counts.filter(|counts| output.status.success() && !counts.is_empty())?;
    Some(InstructionCounts { tools, counts })
}

impl InstructionCounts {
    /// Parses the output of [`fmt::Display`].
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let tools = lines.next().unwrap().to_owned();
        let count = |line: &str| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.trim().parse().unwrap())
        };
        Self { tools, counts: lines.map(count).collect() }
    }

    /// Describes each difference from `baseline` that exceeds the tolerance.
    fn differences(&self, baseline: &Self) -> Vec<String> {
        let same_tools = self.tools == baseline.tools;
        let processor = |tools: &str| tools.rsplit(", ").next().map(str::to_owned);
        let limit = 100.0
            * match (same_tools, processor(&self.tools) == processor(&baseline.tools)) {
                (true, _) => TOLERANCE,
                (false, true) => TOLERANCE_WITH_OTHER_TOOLS,
                // Counts of different processors are not comparable.
                (false, false) => f64::INFINITY,
            };
        let mut wrong = Vec::new();
        for (name, &count) in &self.counts {
            let Some(&baseline) = baseline.counts.get(name) else {
                wrong.push(format!("{name}: {count} instructions, not in the file"));
                continue;
            };
            let more = percent_more(count, baseline);
            if more > limit {
                let change = format!("{more:.1} % more than the {baseline} in the file");
                wrong.push(format!(
                    "{name}: {count} instructions, {change}; the limit is {limit:.0} %"
                ));
            } else if same_tools && more < -limit {
                // An outdated count would hide a later regression by as much.
                let change = format!("{:.1} % less than the {baseline} in the file", -more);
                wrong.push(format!("{name}: {count} instructions, {change}: the file is outdated"));
            }
        }
        let removed = baseline.counts.keys().filter(|name| !self.counts.contains_key(*name));
        wrong.extend(removed.map(|name| format!("{name}: in the file, but no longer a benchmark")));
        wrong
    }
}

impl fmt::Display for InstructionCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions of each benchmark, and the tools that they were counted with."
        )?;
        writeln!(f, "# {RENEW}")?;
        writeln!(f, "{}", self.tools)?;
        self.counts.iter().try_for_each(|(name, count)| writeln!(f, "{name:<44}{count:>10}"))
    }
}
