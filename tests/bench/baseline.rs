//! Compares instruction counts with those in `instructions.txt`.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fmt, fs};

/// By how much a count may differ, either way. With the same tools it is the same to the instruction, in
/// whichever directory, until the code changes; this is for what the compiler then does elsewhere.
const TOLERANCE: f64 = 0.03;
/// By how much it may be larger with other tools than the file was made with: more than a compiler alone
/// would make of it.
const TOLERANCE_OF_OTHERS: f64 = 0.5;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/instructions.txt");
const RENEW: &str = "cargo bench -p countersign-tests --bench instructions -- --renew";

/// What was counted, and what made the program and did the counting.
struct Counts {
    tools: String,
    /// By benchmark.
    all: BTreeMap<String, u64>,
}

/// Has the instructions of this program counted, and compares; or writes the file, if `args` say so.
pub(crate) fn compare(args: &[String]) -> ExitCode {
    // Asked to run as a test, it has nothing to say.
    if !args.iter().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let tools = match tools() {
        Ok(tools) => tools,
        Err(missing) => {
            println!("left out: instructions are not counted, for there is no {missing}");
            // Where nothing may be left out, that is a failure.
            return ExitCode::from(u8::from(env::var_os("COUNTERSIGN_NO_SKIP").is_some()));
        }
    };
    let Some(now) = count(tools) else {
        println!("instructions could not be counted: gungraun-runner says above why");
        return ExitCode::FAILURE;
    };
    if args.iter().any(|arg| arg == "--renew") {
        fs::write(FILE, now.to_string()).unwrap();
        println!("{} counts are in {FILE}", now.all.len());
        return ExitCode::SUCCESS;
    }
    let kept = Counts::parse(&fs::read_to_string(FILE).unwrap());
    println!("{:<44}{:>10}{:>10}", "instructions", "now", "in file");
    for (name, &count) in &now.all {
        print!("{name:<44}{count:>10}");
        match kept.all.get(name) {
            Some(&kept) => println!("{kept:>10}{:>+8.1} %", more(count, kept)),
            None => println!("{:>10}", "-"),
        }
    }
    let wrong = now.differences(&kept);
    if now.tools != kept.tools {
        println!(
            "The file was made with other tools, so counts differ with nothing wrong, and fail"
        );
        println!(
            "only if they are {:.0} % larger, on such a processor.",
            100.0 * TOLERANCE_OF_OTHERS
        );
        println!("    in file: {}\n    now:     {}", kept.tools, now.tools);
    }
    if wrong.is_empty() {
        return ExitCode::SUCCESS;
    }
    wrong.iter().for_each(|wrong| println!("{wrong}"));
    println!("If that is meant, renew the file and commit it with the change:\n    {RENEW}");
    ExitCode::FAILURE
}

/// By how many percent `count` is more than `kept`.
fn more(count: u64, kept: u64) -> f64 {
    100.0 * (count as f64 / kept as f64 - 1.0)
}

/// What counts depend on beside our code; or what is missing to have them.
fn tools() -> Result<String, &'static str> {
    let says = |program, argument| {
        let output = Command::new(program).arg(argument).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success()).ok_or(program)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    says("gungraun-runner", "--version")?;
    let valgrind = says("valgrind", "--version")?;
    // How memory is copied is the C library's choice, by the processor that valgrind shows it: the same
    // one wherever there is AVX2.
    let libc = says("getconf", "GNU_LIBC_VERSION").unwrap_or_default();
    let avx2 = fs::read_to_string("/proc/cpuinfo").is_ok_and(|it| it.contains(" avx2"));
    let processor = if avx2 { "AVX2" } else { env::consts::ARCH };
    Ok(format!("{}, {libc}, {valgrind}, {processor}", env!("COUNTERSIGN_TESTS_RUSTC")))
}

/// Has them counted: starts this program as gungraun's.
fn count(tools: String) -> Option<Counts> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--output-format=json", "--bench"]).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    // Each line is a benchmark's.
    let named = |line: &str| {
        let summary: serde_json::Value = serde_json::from_str(line).ok()?;
        let part = |key| summary[key].as_str();
        let name = format!("{}::{}::{}", part("group")?, part("function_name")?, part("id")?);
        let metrics = &summary["profiles"][0]["data"]["total"]["metrics"];
        Some((name, metrics["Ir"]["values"]["new"].as_u64()?))
    };
    let all: Option<BTreeMap<_, _>> =
        String::from_utf8_lossy(&output.stdout).lines().map(named).collect();
    let all = all.filter(|all| output.status.success() && !all.is_empty())?;
    Some(Counts { tools, all })
}

impl Counts {
    /// Reads what [`fmt::Display`] has written.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let tools = lines.next().unwrap().to_owned();
        let count = |line: &str| {
            let (name, count) = line.split_once(' ').unwrap();
            (name.to_owned(), count.trim().parse().unwrap())
        };
        Self { tools, all: lines.map(count).collect() }
    }

    /// What is not as it is in `kept`, in words.
    fn differences(&self, kept: &Self) -> Vec<String> {
        let same_tools = self.tools == kept.tools;
        let processor = |tools: &str| tools.rsplit(", ").next().map(str::to_owned);
        let most = 100.0
            * match (same_tools, processor(&self.tools) == processor(&kept.tools)) {
                (true, _) => TOLERANCE,
                (false, true) => TOLERANCE_OF_OTHERS,
                // Another's instructions are not to be compared.
                (false, false) => f64::INFINITY,
            };
        let mut wrong = Vec::new();
        for (name, &count) in &self.all {
            let Some(&kept) = kept.all.get(name) else {
                wrong.push(format!("{name}: {count} instructions, and it is not in the file"));
                continue;
            };
            let more = more(count, kept);
            if more > most {
                let was = format!("{more:.1} % more than the {kept} in the file");
                wrong.push(format!("{name}: {count} instructions, {was}; {most:.0} % may be"));
            } else if same_tools && more < -most {
                // Else what is gained now could be lost again unnoticed.
                let was = format!("{:.1} % less than the {kept} in the file", -more);
                wrong.push(format!("{name}: {count} instructions, {was}, which is old"));
            }
        }
        let gone = kept.all.keys().filter(|name| !self.all.contains_key(*name));
        wrong.extend(gone.map(|name| format!("{name}: in the file, and not there any more")));
        wrong
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# How many instructions each benchmark takes, and with what they were counted."
        )?;
        writeln!(f, "# {RENEW}")?;
        writeln!(f, "{}", self.tools)?;
        self.all.iter().try_for_each(|(name, count)| writeln!(f, "{name:<44}{count:>10}"))
    }
}
