//! When an alert is wrong, once for both who watch: as an expression of Prometheus here, by the appliance itself in
//! `services::alerts`.

/// The objectives: of requests, those not answered with a server's error (class 5xx); seconds until an answer.
pub const AVAILABILITY: f64 = 0.999;
pub const MEAN_SECONDS: f64 = 0.15;
pub const P95_SECONDS: f64 = 0.5;
/// Failures over the long window under which nobody is woken: of a hundred requests a night, one would be enough else.
pub const FEWEST_FAILURES: f64 = 4.0;

/// Of gauges and counters as `/metrics` names them. Windows in seconds.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// It does not answer.
    Down,
    Above(&'static str, f64),
    Below(&'static str, f64),
    /// One gauge as a part of another.
    PartAbove(&'static str, &'static str, f64),
    PartBelow(&'static str, &'static str, f64),
    /// So many seconds until the moment the gauge names.
    EndsWithin(&'static str, i64),
    /// A counter, or what of it has this label, grew by more than so much.
    Grew {
        counter: &'static str,
        only: Option<(&'static str, &'static str)>,
        window: i64,
        by: f64,
    },
    /// The budget of errors is used up so many times too fast, over both windows (Site Reliability Workbook, chapter 5).
    Burns {
        times: f64,
        long: i64,
        short: i64,
    },
    MeanAbove(f64),
    P95Above(f64),
}

const REQUESTS: &str = "debrouille_http_requests_total";
const FAILURES: &str = "debrouille_http_requests_total{status=\"5xx\"}";
const DURATION: &str = "debrouille_http_request_duration_seconds";

impl When {
    /// In PromQL; true where it is wrong.
    pub fn expr(&self) -> String {
        match *self {
            Self::Down => r#"up{job="debrouille"} == 0"#.to_owned(),
            Self::Above(gauge, bound) => format!("{} > {bound}", ours(gauge)),
            Self::Below(gauge, bound) => format!("{} < {bound}", ours(gauge)),
            Self::PartAbove(part, whole, bound) => format!("{} / {} > {bound}", ours(part), ours(whole)),
            Self::PartBelow(part, whole, bound) => format!("{} / {} < {bound}", ours(part), ours(whole)),
            Self::EndsWithin(gauge, seconds) => format!("{} - time() < {seconds}", ours(gauge)),
            Self::Grew { counter, only, window, by } => {
                let only = only.map(|(label, value)| format!("{{{label}=\"{value}\"}}")).unwrap_or_default();
                format!("increase({counter}{only}[{}]) > {by}", duration(window))
            }
            Self::Burns { times, long, short } => {
                let sum = |series: &str, what: &str, window| {
                    format!("sum by (instance) ({what}({series}[{}]))", duration(window))
                };
                let burns = |window| {
                    let (bad, all) = (sum(FAILURES, "rate", window), sum(REQUESTS, "rate", window));
                    format!("({bad} / {all}) > {times} * {}", budget())
                };
                let enough = format!("{} > {FEWEST_FAILURES}", sum(FAILURES, "increase", long));
                format!("{} and {} and {enough}", burns(long), burns(short))
            }
            Self::MeanAbove(seconds) => {
                let rate = |part: &str| format!("sum by (instance) (rate({DURATION}_{part}[5m]))");
                format!("{} / {} > {seconds}", rate("sum"), rate("count"))
            }
            Self::P95Above(seconds) => {
                let buckets = format!("sum by (instance, le) (rate({DURATION}_bucket[5m]))");
                format!("histogram_quantile(0.95, {buckets}) > {seconds}")
            }
        }
    }
}

/// Of requests, those that may fail.
pub fn budget() -> f64 {
    // Without what binary fractions leave of a difference.
    ((1.0 - AVAILABILITY) * 1e6).round() / 1e6
}

/// Every process has some of these: of ours alone.
fn ours(series: &str) -> String {
    match series.starts_with("process_") {
        true => format!("{series}{{job=\"debrouille\"}}"),
        false => series.to_owned(),
    }
}

/// As Prometheus writes it: `90m` for 5400.
pub fn duration(seconds: i64) -> String {
    match seconds {
        _ if seconds > 0 && seconds % 86_400 == 0 => format!("{}d", seconds / 86_400),
        _ if seconds > 0 && seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_prometheus_reads_it() {
        let shown = |when: When| when.expr();
        assert_eq!(shown(When::PartAbove("process_a", "b", 0.8)), "process_a{job=\"debrouille\"} / b > 0.8");
        assert_eq!(shown(When::EndsWithin("a", 60)), "a - time() < 60");
        let grew = When::Grew { counter: "a_total", only: Some(("reason", "x")), window: 5400, by: 2.0 };
        assert_eq!(shown(grew), "increase(a_total{reason=\"x\"}[90m]) > 2");
        let burns = shown(When::Burns { times: 14.4, long: 3600, short: 300 });
        assert!(burns.contains("[1h])) / ") && burns.contains("[5m]))) > 14.4 * 0.001 and "), "{burns}");
        assert_eq!([0, 90, 7200, 259_200].map(duration), ["0m", "90s", "2h", "3d"]);
    }
}
