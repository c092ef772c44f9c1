//! `status`: how the instance is, at a glance; with `--watch`, for as long as somebody looks.

use super::{
    alert,
    client::Client,
    collection::word,
    context::Context,
    failure::{Code, Failure, unreadable},
    output,
};
use crate::{
    base::{
        config::Config,
        fault::Fault,
        messages::{Language, text},
    },
    server,
    services::alerts,
};
use serde_json::{Value, json};
use std::{io::ErrorKind, os::unix::net::UnixStream, time::Duration};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// To the upper left, and nothing is left below.
const CLEAR: &str = "\x1b[H\x1b[2J";
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, short)]
    watch: bool,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    if arguments.watch {
        return watch(context, &config).await;
    }
    match look(context, &config).await? {
        Some(seen) => context.answer(&seen, || page(context, &seen)),
        None => {
            let (document, words) = stopped(context, &config)?;
            context.answer(&document, || words)?;
            Err(Failure::silent(Code::Unavailable))
        }
    }
}

/// `None`: no server answers.
async fn look(context: &Context, config: &Config) -> Result<Option<Value>, Failure> {
    // Data are not opened for a glance.
    if let Err(error) = UnixStream::connect(config.control_socket())
        && [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind())
    {
        return Ok(None);
    }
    let mut client = Client::open(context, config.clone()).await?;
    let seen = client.get("/admin/status").await?.data;
    client.close().await?;
    Ok(Some(seen))
}

/// Until it is interrupted, which is no failure.
async fn watch(context: &Context, config: &Config) -> Result<(), Failure> {
    let told = tokio::signal::ctrl_c();
    tokio::pin!(told);
    let clear = if context.json || !output::is_terminal() { "" } else { CLEAR };
    loop {
        let words = tokio::select! {
            words = frame(context, config) => words,
            _ = &mut told => return Ok(()),
        };
        if !output::show(format!("{clear}{}\n", words.trim_end()).as_bytes())? {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = &mut told => return Ok(()),
        }
    }
}

/// What is to be seen at this moment, be it that there is nothing.
async fn frame(context: &Context, config: &Config) -> String {
    let seen = match look(context, config).await {
        Ok(Some(seen)) if context.json => Ok(seen.to_string()),
        Ok(Some(seen)) => Ok(page(context, &seen)),
        Ok(None) if context.json => stopped(context, config).map(|(document, _)| document.to_string()),
        Ok(None) => stopped(context, config).map(|(_, words)| words),
        Err(failure) => Err(failure),
    };
    seen.unwrap_or_else(|failure| failure.messages(context.language).join("\n"))
}

/// What is known of an instance that does not run: how it was when last noted.
fn stopped(context: &Context, config: &Config) -> Result<(Value, String), Failure> {
    let file = server::alerts::file(config);
    let state = alerts::read(&file).map_err(|error| unreadable(file.display(), error))?;
    let firing: Vec<_> = state.alerts.iter().filter(|alert| alert.fires()).map(|alert| alert.name.as_str()).collect();
    let seen = (state.seen.0 > 0).then(|| state.seen.rfc3339());
    let document = json!({ "running": false, "lastSeenAt": seen, "stoppedInOrder": state.stopped, "alerts": firing });
    let key = match (&seen, state.stopped) {
        (None, _) => "cli.status.never",
        (Some(_), true) => "cli.status.stopped",
        (Some(_), false) => "cli.status.fallen",
    };
    let mut words = vec![context.words(&Fault::new(key).with("time", seen.unwrap_or_default()))];
    if !firing.is_empty() {
        words.push(context.words(&Fault::new("cli.status.fired").with("names", firing.join(", "))));
    }
    Ok((document, words.join("\n")))
}

fn page(context: &Context, seen: &Value) -> String {
    let mut lines = vec![head(context, seen), String::new()];
    lines.extend(objectives(context, &seen["objectives"]));
    lines.extend(minutes(context, seen));
    lines.push(String::new());
    lines.extend(figures(context, seen));
    lines.push(String::new());
    lines.extend(faults(context, seen));
    lines.join("\n")
}

fn head(context: &Context, seen: &Value) -> String {
    let (ready, colour) = match seen["ready"].as_str() {
        Some("ready") => ("cli.status.ready", "32"),
        Some("degraded") => ("cli.status.degraded", "33"),
        _ => ("cli.status.unready", "31"),
    };
    let up = since(&seen["startedAt"], &seen["time"]).map(output::age).unwrap_or_default();
    let ready = coloured(context, colour, &text(context.language, ready));
    let told = Fault::new("cli.status.head").with("version", word(&seen["version"]));
    let told = told.with("environment", word(&seen["environment"])).with("ready", ready).with("up", up);
    context.words(&told)
}

fn objectives(context: &Context, known: &Value) -> Vec<String> {
    let language = context.language;
    let part = |value: f64, digits| number(language, value * 100.0, digits);
    let unknown = || "–".to_owned();
    let availability = known["availability"].as_f64().map_or_else(unknown, |value| part(value, 3));
    let left = known["budgetLeft"].as_f64().unwrap_or(1.0);
    let burns: Vec<_> = known["burns"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    let burns: Vec<_> = burns.iter().map(|burn| number(language, *burn, 1)).collect();
    let told = Fault::new("cli.status.availability")
        .with("value", availability)
        .with("target", part(known["availabilityTarget"].as_f64().unwrap_or_default(), 1))
        .with("left", coloured(context, if left < 0.25 { "31" } else { "0" }, &part(left, 0)))
        .with("burns", burns.join(" · "));
    let millis = |name: &str, digits| {
        known[name].as_f64().map_or_else(unknown, |seconds| number(language, seconds * 1000.0, digits))
    };
    let latency = Fault::new("cli.status.latency")
        .with("mean", millis("meanSeconds", 1))
        .with("meanTarget", millis("meanTargetSeconds", 0))
        .with("p95", millis("p95Seconds", 1))
        .with("p95Target", millis("p95TargetSeconds", 0));
    vec![
        line(context, "cli.status.row_availability", &context.words(&told)),
        line(context, "cli.status.row_latency", &context.words(&latency)),
    ]
}

/// The last hour.
fn minutes(context: &Context, seen: &Value) -> Vec<String> {
    let (minutes, language) = (&seen["minutes"], context.language);
    let of = |name: &str| minutes[name].as_array().into_iter().flatten().filter_map(Value::as_f64).collect::<Vec<_>>();
    // The one that runs is not whole yet.
    let last = |values: &[f64]| values.iter().rev().nth(1).copied().unwrap_or_default();
    let row = |key: &'static str, values: Vec<f64>, shown: String| {
        line(context, key, &format!("{}  {shown}", sparkline(&values)))
    };
    let (requests, failures, p95) = (of("requests"), of("failures"), of("p95Seconds"));
    let (cpu, memory) = (of("cpuSeconds"), of("memoryBytes"));
    let a_minute = |values: &[f64]| format!("{}/min", number(language, last(values), 0));
    let held = seen["process"]["memoryBytes"].as_u64().map(output::bytes).unwrap_or_default();
    let shown = [
        a_minute(&requests),
        a_minute(&failures),
        format!("{} ms", number(language, last(&p95) * 1000.0, 1)),
        format!("{} %", number(language, last(&cpu) / 60.0 * 100.0, 0)),
        held,
    ];
    let keys = [
        "cli.status.row_requests",
        "cli.status.row_failures",
        "cli.status.row_p95",
        "cli.status.row_cpu",
        "cli.status.row_memory",
    ];
    let all = [requests, failures, p95, cpu, memory];
    keys.into_iter().zip(all).zip(shown).map(|((key, values), shown)| row(key, values, shown)).collect()
}

fn figures(context: &Context, seen: &Value) -> Vec<String> {
    let (storage, now) = (&seen["storage"], &seen["time"]);
    let size = |name: &str| storage[name].as_u64().map(output::bytes).unwrap_or_else(|| "–".to_owned());
    let disk = Fault::new("cli.status.disk").with("free", size("freeBytes")).with("size", size("volumeBytes"));
    let disk = disk.with("stored", size("bytes")).with("journal", size("journalBytes"));
    let mut lines = vec![line(context, "cli.status.row_disk", &context.words(&disk))];
    let ago = |time: &Value| since(time, now).map_or_else(|| "–".to_owned(), output::age);
    for target in seen["backups"].as_array().into_iter().flatten() {
        let told = Fault::new("cli.status.backup").with("target", word(&target["target"]));
        let told = told.with("full", ago(&target["fullAt"])).with("segment", ago(&target["segmentAt"]));
        lines.push(line(context, "cli.status.row_backup", &context.words(&told)));
    }
    if seen["drill"].is_object() {
        let key = if seen["drill"]["passed"] == true { "cli.status.drill_passed" } else { "cli.status.drill_failed" };
        let told = context.words(&Fault::new(key).with("age", ago(&seen["drill"]["endedAt"])));
        lines.push(line(context, "cli.status.row_drill", &told));
    }
    if let Some(left) = since(now, &seen["certificateEndsAt"]) {
        let told = Fault::new("cli.status.certificate").with("days", left / 86_400);
        lines.push(line(context, "cli.status.row_certificate", &context.words(&told)));
    }
    lines
}

/// What somebody should look at.
fn faults(context: &Context, seen: &Value) -> Vec<String> {
    let alerts = seen["alerts"].as_array().into_iter().flatten();
    let (ended, firing): (Vec<_>, Vec<_>) = alerts.partition(|alert| alert["ended"].is_string());
    let mut lines = Vec::new();
    for alert in &firing {
        let colour = if alert["severity"] == "critical" { "31" } else { "33" };
        let severity = coloured(context, colour, &alert::severity(context, alert));
        let told = Fault::new("cli.status.alert").with("severity", severity).with("name", word(&alert["name"]));
        let told = told.with("place", alert::place(alert)).with("since", alert::minute(&alert["since"]));
        lines.push(format!("{}\n  {}", context.words(&told).trim_end(), word(&alert["message"])));
    }
    if firing.is_empty() {
        lines.push(text(context.language, "cli.alert.none"));
    }
    if !ended.is_empty() {
        let names: Vec<_> = ended.iter().map(|alert| word(&alert["name"])).collect();
        lines.push(context.words(&Fault::new("cli.status.ended").with("names", names.join(", "))));
    }
    for check in seen["checks"].as_array().into_iter().flatten() {
        let colour = if check["level"] == "failure" { "31" } else { "33" };
        lines.push(format!("{} {}", coloured(context, colour, &word(&check["check"])), word(&check["message"])));
    }
    lines
}

fn line(context: &Context, key: &'static str, words: &str) -> String {
    format!("{:<16}{words}", text(context.language, key))
}

fn coloured(context: &Context, colour: &str, words: &str) -> String {
    if context.colours() { format!("\x1b[{colour}m{words}\x1b[0m") } else { words.to_owned() }
}

/// Seconds from one moment to another, as RFC 3339.
fn since(from: &Value, to: &Value) -> Option<u64> {
    let seconds =
        |time: &Value| Some(bson::DateTime::parse_rfc3339_str(time.as_str()?).ok()?.timestamp_millis() / 1000);
    u64::try_from(seconds(to)? - seconds(from)?).ok()
}

/// As tall as they are, the tallest filling the line; all flat where there is nothing.
fn sparkline(values: &[f64]) -> String {
    let most = values.iter().copied().fold(0.0, f64::max);
    let spark = |value: &f64| {
        let height = if most > 0.0 { (value / most * 7.0).ceil().clamp(0.0, 7.0) as usize } else { 0 };
        SPARKS[height]
    };
    values.iter().map(spark).collect()
}

fn number(language: Language, value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if language == Language::French { text.replace('.', ",") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tallest_fills_the_line() {
        assert_eq!(sparkline(&[0.0, 1.0, 3.5, 7.0]), "▁▂▅█");
        assert_eq!(sparkline(&[0.0, 0.0]), "▁▁");
        assert_eq!(sparkline(&[5.0, 0.001]), "█▂", "little is not nothing");
        assert_eq!(
            (number(Language::French, 99.981, 2), number(Language::English, 0.5, 0)),
            ("99,98".to_owned(), "0".to_owned())
        );
    }

    #[test]
    fn moments_lie_apart() {
        assert_eq!(since(&json!("2026-11-22T10:15:00.123Z"), &json!("2026-11-22T10:16:01Z")), Some(61));
        assert_eq!(since(&json!("2026-11-22T10:16:01Z"), &json!("2026-11-22T10:15:00Z")), None);
        assert_eq!(since(&Value::Null, &json!("2026-11-22T10:15:00Z")), None);
    }
}
