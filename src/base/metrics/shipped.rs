//! What is generated from the table of alerts, for who has a Prometheus and a Grafana: rules, tests of the rules, what to
//! scrape, a dashboard.

use super::alerts::{ALERTS, Alert, duration};
use crate::base::messages::{Language, lookup};
use serde_json::{Value, json};
use std::fmt::Write;

const GROUP: &str = "debrouille-appliance";

/// `monitoring/prometheus.yml`, to be merged into the one there is.
pub fn scrape() -> String {
    let mut text = String::new();
    for language in [Language::French, Language::English] {
        let _ = writeln!(text, "# {}", words("monitoring.scrape", language));
    }
    text.push_str(concat!(
        "scrape_configs:\n",
        "  - job_name: debrouille\n",
        "    scrape_interval: 15s\n",
        "    static_configs:\n",
        "      - targets: [\"127.0.0.1:9464\"]\n",
        "rule_files:\n",
        "  - alerts.yml\n",
    ));
    text
}

/// `monitoring/alerts.yml`.
pub fn rules() -> String {
    let mut text = format!("groups:\n  - name: {GROUP}\n    rules:\n");
    for alert in ALERTS {
        let _ = writeln!(text, "      - alert: {}", alert.name);
        let _ = writeln!(text, "        expr: {}", quoted(&alert.when.expr()));
        let _ = writeln!(text, "        for: {}", duration(alert.wait));
        let _ = writeln!(text, "        labels:\n          severity: {}", alert.severity.name());
        text.push_str("        annotations:\n");
        for (name, value) in annotations(alert) {
            let _ = writeln!(text, "          {name}: {}", quoted(&value));
        }
    }
    text
}

/// `monitoring/alerts.test.yml`: each rule is quiet, fires, and is quiet again.
pub fn tests() -> String {
    let mut text = "rule_files:\n  - alerts.yml\nevaluation_interval: 1m\ntests:\n".to_owned();
    for alert in ALERTS {
        text.push_str("  - interval: 1m\n    input_series:\n");
        for (series, values) in alert.proof.series {
            let _ = writeln!(text, "      - series: {}\n        values: {}", quoted(series), quoted(values));
        }
        text.push_str("    alert_rule_test:\n");
        for (time, fires) in [("5m", false), (alert.proof.fires, true), (alert.proof.over, false)] {
            let _ = writeln!(text, "      - eval_time: {time}\n        alertname: {}", alert.name);
            match fires {
                true => expected(&mut text, alert),
                false => text.push_str("        exp_alerts: []\n"),
            }
        }
    }
    text
}

fn expected(text: &mut String, alert: &Alert) {
    let _ = writeln!(
        text,
        "        exp_alerts:\n          - exp_labels:\n              severity: {}",
        alert.severity.name()
    );
    for (name, value) in alert.proof.labels {
        let _ = writeln!(text, "              {name}: {value}");
    }
    text.push_str("            exp_annotations:\n");
    for (name, value) in annotations(alert) {
        let _ = writeln!(text, "              {name}: {}", quoted(&value));
    }
}

fn annotations(alert: &Alert) -> [(&'static str, String); 2] {
    let key = format!("alert.{}", alert.name);
    [("summary", words(&key, Language::French)), ("description", words(&key, Language::English))]
}

fn words(key: &str, language: Language) -> String {
    lookup(language, key).map(str::to_owned).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Panels of the dashboard: title in French, what is drawn, in which unit.
pub const PANELS: &[(&str, &str, &str)] = &[
    ("Requêtes", "sum by (status) (rate(debrouille_http_requests_total[5m]))", "reqps"),
    (
        "Erreurs",
        "sum(rate(debrouille_http_requests_total{status=\"5xx\"}[5m])) / sum(rate(debrouille_http_requests_total[5m]))",
        "percentunit",
    ),
    (
        "Latence p50",
        "histogram_quantile(0.5, sum by (le) (rate(debrouille_http_request_duration_seconds_bucket[5m])))",
        "s",
    ),
    (
        "Latence p95",
        "histogram_quantile(0.95, sum by (le) (rate(debrouille_http_request_duration_seconds_bucket[5m])))",
        "s",
    ),
    ("Processeur", "rate(process_cpu_seconds_total{job=\"debrouille\"}[5m])", "percentunit"),
    ("Mémoire", "process_resident_memory_bytes{job=\"debrouille\"}", "bytes"),
    ("Connexions", "debrouille_connections_open", "short"),
    ("Requêtes en cours", "debrouille_http_requests_in_flight", "short"),
    ("Connexions, part de la limite", "debrouille_connections_open / debrouille_connections_limit", "percentunit"),
    ("Écritures en attente", "debrouille_commit_queue_depth", "short"),
    (
        "Attente d'une écriture p95",
        "histogram_quantile(0.95, sum by (le) (rate(debrouille_commit_wait_seconds_bucket[5m])))",
        "s",
    ),
    ("Pages lues du disque", "rate(debrouille_storage_pages_read_total[5m])", "short"),
    (
        "Caches, part trouvée",
        "rate(debrouille_cache_hits_total[5m]) / (rate(debrouille_cache_hits_total[5m]) + rate(debrouille_cache_misses_total[5m]))",
        "percentunit",
    ),
    ("Tâches qui attendent un fil", "debrouille_runtime_queue_depth", "short"),
    ("Fichiers ouverts", "process_open_fds{job=\"debrouille\"} / process_max_fds{job=\"debrouille\"}", "percentunit"),
    ("Place libre", "debrouille_volume_free_bytes", "bytes"),
    ("Budget d'erreurs restant", "debrouille_error_budget_left_ratio", "percentunit"),
    ("Alertes", "sum by (severity) (debrouille_alerts_firing)", "short"),
    ("Base de données", "debrouille_storage_size_bytes", "bytes"),
    ("Journal", "debrouille_journal_bytes", "bytes"),
    ("Âge des sauvegardes", "debrouille_backup_last_success_age_seconds", "s"),
    ("Âge de l'exercice de restauration", "debrouille_drill_last_age_seconds", "s"),
    ("Fin du certificat", "debrouille_certificate_end_timestamp_seconds - time()", "s"),
    ("Retard de l'audit", "debrouille_audit_seal_lag_seconds", "s"),
    ("Tâches en échec", "increase(debrouille_job_failures_total[1h])", "short"),
];

/// `monitoring/dashboard.json`, for Grafana's import.
pub fn dashboard() -> Value {
    let panel = |(index, (title, expr, unit)): (usize, &(&str, &str, &str))| {
        let source = json!({ "type": "prometheus", "uid": "${source}" });
        json!({
            "id": index + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "fieldConfig": { "defaults": { "unit": unit, "min": 0 }, "overrides": [] },
            "gridPos": { "h": 8, "w": 8, "x": index % 3 * 8, "y": index / 3 * 8 },
            "targets": [{ "refId": "A", "datasource": source, "expr": expr }],
        })
    };
    json!({
        "title": "Débrouille Appliance",
        "uid": "debrouille-appliance",
        "schemaVersion": 39,
        "time": { "from": "now-6h", "to": "now" },
        "refresh": "1m",
        "templating": { "list": [{ "name": "source", "type": "datasource", "query": "prometheus" }] },
        "panels": PANELS.iter().enumerate().map(panel).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        clock::{FixedClock, Timestamp},
        metrics::{Drill, Metrics, Sample, alerts::Severity, backups},
    };
    use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

    fn generated() -> [(PathBuf, String); 4] {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("monitoring");
        [
            (folder.join("prometheus.yml"), scrape()),
            (folder.join("alerts.yml"), rules()),
            (folder.join("alerts.test.yml"), super::tests()),
            (folder.join("dashboard.json"), format!("{:#}\n", dashboard())),
        ]
    }

    #[test]
    fn the_shipped_files_are_fresh() {
        for (path, text) in generated() {
            let held = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(held == text, "{} is stale: run cargo test --lib write_shipped_files -- --ignored", path.display());
        }
    }

    #[test]
    #[ignore = "writes the files of the table; run it after changing the table or its words"]
    fn write_shipped_files() {
        for (path, text) in generated() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    /// Every series there is, by its name.
    fn known() -> BTreeSet<String> {
        let metrics = Metrics::new(Arc::new(FixedClock(1_795_000_000_000.into())));
        metrics.request(None, "GET", 200, Duration::ZERO, None);
        drop(metrics.connection_opened("https"));
        metrics.connections_limited("https", 1);
        metrics.watch("rules", Arc::default());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        metrics.connection_refused("https", "waiting");
        metrics.job_ran("a", Some(Timestamp(1)));
        metrics.job_ran("a", None);
        let kind = backups::Kind { last: Some(Timestamp(1)), ..Default::default() };
        let target = backups::Target { name: "usb".to_owned(), full: kind, ..Default::default() };
        let drill = Drill { ended: Timestamp(1), passed: true, rto_seconds: Some(1), rpo_seconds: Some(1) };
        metrics.sample(|sample| {
            *sample = Sample {
                stored_bytes: Some(1),
                volume_free_bytes: Some(1),
                volume_size_bytes: Some(1),
                volume_free_inodes: Some(1),
                volume_inodes: Some(1),
                queued_batches: Some(1),
                commit_waits: Some(Default::default()),
                pages_read: Some(1),
                journal_sequence: Some(1),
                journal_records: Some(1),
                journal_bytes: Some(1),
                read_only: Some(false),
                backups: vec![target],
                journal_let_go: Some(1),
                drill: Some(drill),
                migration: Some(1),
                migration_seconds: Some(1),
                certificate_end: Some(Timestamp(1)),
                certificate_fallback: Some(false),
                certificate_failures: Some(1),
                certificate_revoked: Some(false),
                collector_failures: Some(0),
                keys: vec![("data", Timestamp(1))],
                audit_entries: Some(1),
                audit_lag_seconds: Some(1),
                audit_witnessed: Some(Timestamp(1)),
                ready: Some(true),
                unclean_starts: Some(0),
                alerts: vec![(Severity::Critical, 1)],
                alert_channels: vec![("mail", 1)],
                budget_left: Some(1.0),
            };
        });
        let text = metrics.render();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned())).collect()
    }

    #[test]
    fn alerts_and_panels_speak_of_series_that_there_are() {
        let known = known();
        let named = regex::Regex::new(r"\b(debrouille|process)_[a-z_]+\b").unwrap();
        let panels = PANELS.iter().map(|(_, expr, _)| (*expr).to_owned());
        let mut seen = 0;
        for expr in ALERTS.iter().map(|alert| alert.when.expr()).chain(panels) {
            for name in named.find_iter(&expr) {
                seen += 1;
                assert!(known.contains(name.as_str()), "{} of {expr}", name.as_str());
            }
        }
        assert!(seen > 40, "{seen}");
    }

    #[test]
    fn every_alert_has_its_words_and_a_name_of_its_own() {
        let names: BTreeSet<_> = ALERTS.iter().map(|alert| alert.name).collect();
        assert_eq!(names.len(), ALERTS.len());
        for alert in ALERTS {
            for (_, words) in annotations(alert) {
                assert!(!words.is_empty(), "{}", alert.name);
            }
        }
    }
}
