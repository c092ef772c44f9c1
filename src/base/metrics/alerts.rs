//! The table of alerts: what is wrong, from when on, and figures that show it wrong and well again. The rules, their tests and
//! the dashboard that are shipped follow from it (`shipped.rs`), and so does what the appliance watches of itself
//! (`services::alerts`).

mod when;

pub use when::{AVAILABILITY, FEWEST_FAILURES, MEAN_SECONDS, P95_SECONDS, When, budget, duration};

/// How soon somebody must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Within days.
    Warning,
    /// At once: requests fail, or data is at risk.
    Critical,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// Its words are `alert.NAME` in the catalogue.
pub struct Alert {
    pub name: &'static str,
    pub when: When,
    /// Seconds for which it must be so.
    pub wait: i64,
    pub severity: Severity,
    pub proof: Proof,
}

/// Samples a minute apart, as promtool writes them, and what is to be seen of them.
pub struct Proof {
    pub series: &'static [(&'static str, &'static str)],
    /// When it fires, and with which labels beside its severity.
    pub fires: &'static str,
    pub labels: &'static [(&'static str, &'static str)],
    /// When it no longer does.
    pub over: &'static str,
}

const ONE: &[(&str, &str)] = &[("instance", "a"), ("job", "debrouille")];
const GROUPED: &[(&str, &str)] = &[("instance", "a")];

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

const fn alert(name: &'static str, severity: Severity, wait: i64, when: When, proof: Proof) -> Alert {
    Alert { name, when, wait, severity, proof }
}

/// A gauge that is well for ten minutes, wrong for forty, and well again.
const fn proof(
    series: &'static [(&'static str, &'static str)],
    labels: &'static [(&'static str, &'static str)],
) -> Proof {
    Proof { series, fires: "49m", labels, over: "80m" }
}

impl Alert {
    pub fn named(name: &str) -> Option<&'static Self> {
        ALERTS.iter().find(|alert| alert.name == name)
    }
}

const GOOD: &str =
    r#"debrouille_http_requests_total{job="debrouille",instance="a",route="/a",method="GET",status="2xx"}"#;
const BAD: &str =
    r#"debrouille_http_requests_total{job="debrouille",instance="a",route="/a",method="GET",status="5xx"}"#;

pub const ALERTS: &[Alert] = &[
    alert(
        "DebrouilleDown",
        Severity::Critical,
        2 * MINUTE,
        When::Down,
        proof(&[(r#"up{job="debrouille",instance="a"}"#, "1x10 0x40 1x40")], ONE),
    ),
    alert(
        "DebrouilleRestarting",
        Severity::Critical,
        0,
        When::Above("debrouille_unclean_starts", 2.0),
        proof(&[(r#"debrouille_unclean_starts{job="debrouille",instance="a"}"#, "0x10 3x40 0x40")], ONE),
    ),
    alert(
        "DebrouilleUnready",
        Severity::Critical,
        MINUTE,
        When::Below("debrouille_ready", 1.0),
        proof(&[(r#"debrouille_ready{job="debrouille",instance="a"}"#, "1x10 0x40 1x40")], ONE),
    ),
    alert(
        "DebrouilleReadOnly",
        Severity::Critical,
        MINUTE,
        When::Above("debrouille_storage_read_only", 0.0),
        proof(&[(r#"debrouille_storage_read_only{job="debrouille",instance="a"}"#, "0x10 1x40 0x40")], ONE),
    ),
    alert(
        "DebrouilleErrorsFast",
        Severity::Critical,
        2 * MINUTE,
        When::Burns { times: 14.4, long: HOUR, short: 5 * MINUTE },
        Proof {
            series: &[(GOOD, "0+600x240"), (BAD, "0+0x30 0+60x60 3600+0x150")],
            fires: "90m",
            labels: GROUPED,
            over: "110m",
        },
    ),
    alert(
        "DebrouilleErrorsSlow",
        Severity::Critical,
        15 * MINUTE,
        When::Burns { times: 6.0, long: 6 * HOUR, short: 30 * MINUTE },
        Proof {
            series: &[(GOOD, "0+600x900"), (BAD, "0+0x30 0+6x400 2400+0x470")],
            fires: "430m",
            labels: GROUPED,
            over: "500m",
        },
    ),
    alert(
        "DebrouilleErrorsCreeping",
        Severity::Warning,
        HOUR,
        When::Burns { times: 1.0, long: 3 * DAY, short: 6 * HOUR },
        Proof {
            series: &[(GOOD, "0+600x6000"), (BAD, "0+0x30 0+1x4600 4600+0x1370")],
            fires: "4600m",
            labels: GROUPED,
            over: "5400m",
        },
    ),
    alert(
        "DebrouilleSlow",
        Severity::Warning,
        10 * MINUTE,
        When::P95Above(P95_SECONDS),
        Proof {
            series: &[
                (
                    r#"debrouille_http_request_duration_seconds_bucket{instance="a",le="0.1"}"#,
                    "0+60x30 1800+0x40 1800+60x60",
                ),
                (
                    r#"debrouille_http_request_duration_seconds_bucket{instance="a",le="0.5"}"#,
                    "0+60x30 1800+0x40 1800+60x60",
                ),
                (r#"debrouille_http_request_duration_seconds_bucket{instance="a",le="1.0"}"#, "0+60x130"),
                (r#"debrouille_http_request_duration_seconds_bucket{instance="a",le="+Inf"}"#, "0+60x130"),
            ],
            fires: "65m",
            labels: GROUPED,
            over: "100m",
        },
    ),
    alert(
        "DebrouilleMeanSlow",
        Severity::Warning,
        10 * MINUTE,
        When::MeanAbove(MEAN_SECONDS),
        Proof {
            series: &[
                (r#"debrouille_http_request_duration_seconds_sum{instance="a"}"#, "0+1x30 30+20x40 830+1x60"),
                (r#"debrouille_http_request_duration_seconds_count{instance="a"}"#, "0+60x130"),
            ],
            fires: "65m",
            labels: GROUPED,
            over: "100m",
        },
    ),
    alert(
        "DebrouillePanics",
        Severity::Warning,
        0,
        When::Grew { counter: "debrouille_panics_total", only: None, window: HOUR, by: 0.0 },
        Proof {
            series: &[(r#"debrouille_panics_total{job="debrouille",instance="a"}"#, "0x10 1x120")],
            fires: "30m",
            labels: ONE,
            over: "100m",
        },
    ),
    alert(
        "DebrouilleDiskLow",
        Severity::Warning,
        10 * MINUTE,
        When::PartBelow("debrouille_volume_free_bytes", "debrouille_volume_size_bytes", 0.15),
        proof(
            &[
                (r#"debrouille_volume_free_bytes{job="debrouille",instance="a"}"#, "50x10 10x40 50x40"),
                (r#"debrouille_volume_size_bytes{job="debrouille",instance="a"}"#, "100x90"),
            ],
            ONE,
        ),
    ),
    alert(
        "DebrouilleDiskFull",
        Severity::Critical,
        5 * MINUTE,
        When::PartBelow("debrouille_volume_free_bytes", "debrouille_volume_size_bytes", 0.05),
        proof(
            &[
                (r#"debrouille_volume_free_bytes{job="debrouille",instance="a"}"#, "50x10 4x40 50x40"),
                (r#"debrouille_volume_size_bytes{job="debrouille",instance="a"}"#, "100x90"),
            ],
            ONE,
        ),
    ),
    alert(
        "DebrouilleInodesLow",
        Severity::Warning,
        10 * MINUTE,
        When::PartBelow("debrouille_volume_free_inodes", "debrouille_volume_inodes", 0.1),
        proof(
            &[
                (r#"debrouille_volume_free_inodes{job="debrouille",instance="a"}"#, "50x10 5x40 50x40"),
                (r#"debrouille_volume_inodes{job="debrouille",instance="a"}"#, "100x90"),
            ],
            ONE,
        ),
    ),
    alert(
        "DebrouilleFilesExhausted",
        Severity::Warning,
        5 * MINUTE,
        When::PartAbove("process_open_fds", "process_max_fds", 0.8),
        proof(
            &[
                (r#"process_open_fds{job="debrouille",instance="a"}"#, "10x10 90x40 10x40"),
                (r#"process_max_fds{job="debrouille",instance="a"}"#, "100x90"),
            ],
            ONE,
        ),
    ),
    alert(
        "DebrouilleConnectionsRefused",
        Severity::Warning,
        5 * MINUTE,
        When::Grew {
            counter: "debrouille_connections_refused_total",
            only: Some(("reason", "waiting")),
            window: 5 * MINUTE,
            by: 0.0,
        },
        Proof {
            series: &[(
                r#"debrouille_connections_refused_total{job="debrouille",instance="a",listener="https",reason="waiting"}"#,
                "0x10 0+5x30 150x60",
            )],
            fires: "35m",
            labels: &[("instance", "a"), ("job", "debrouille"), ("listener", "https"), ("reason", "waiting")],
            over: "60m",
        },
    ),
    alert(
        "DebrouilleCommitsQueued",
        Severity::Warning,
        5 * MINUTE,
        When::Above("debrouille_commit_queue_depth", 1000.0),
        proof(&[(r#"debrouille_commit_queue_depth{job="debrouille",instance="a"}"#, "3x10 5000x40 3x40")], ONE),
    ),
    alert(
        "DebrouilleJobFailing",
        Severity::Warning,
        0,
        When::Grew { counter: "debrouille_job_failures_total", only: None, window: 6 * HOUR, by: 2.0 },
        Proof {
            series: &[(
                r#"debrouille_job_failures_total{job="debrouille",instance="a",exported_job="journal_trimming"}"#,
                "0x10 0+1x5 5x500",
            )],
            fires: "30m",
            labels: &[("exported_job", "journal_trimming"), ("instance", "a"), ("job", "debrouille")],
            over: "420m",
        },
    ),
    alert(
        "DebrouilleBackupOld",
        Severity::Critical,
        5 * MINUTE,
        When::Above("debrouille_backup_last_success_age_seconds", 26.0 * 3600.0),
        proof(
            &[(
                r#"debrouille_backup_last_success_age_seconds{job="debrouille",instance="a",target="usb",kind="full"}"#,
                "100x10 100000x40 100x40",
            )],
            &[("instance", "a"), ("job", "debrouille"), ("kind", "full"), ("target", "usb")],
        ),
    ),
    alert(
        "DebrouilleBackupFailing",
        Severity::Warning,
        0,
        When::Above("debrouille_backup_failing", 2.0),
        proof(
            &[(r#"debrouille_backup_failing{job="debrouille",instance="a",target="usb"}"#, "0x10 5x40 0x40")],
            &[("instance", "a"), ("job", "debrouille"), ("target", "usb")],
        ),
    ),
    alert(
        "DebrouilleBackupDamaged",
        Severity::Critical,
        0,
        When::Above("debrouille_backup_damaged", 0.0),
        proof(
            &[(r#"debrouille_backup_damaged{job="debrouille",instance="a",target="usb"}"#, "0x10 1x40 0x40")],
            &[("instance", "a"), ("job", "debrouille"), ("target", "usb")],
        ),
    ),
    alert(
        "DebrouilleJournalLost",
        Severity::Critical,
        0,
        When::Grew { counter: "debrouille_journal_let_go", only: None, window: DAY, by: 0.0 },
        Proof {
            series: &[(r#"debrouille_journal_let_go{job="debrouille",instance="a"}"#, "0x10 7x1600")],
            fires: "49m",
            labels: ONE,
            over: "1520m",
        },
    ),
    alert(
        "DebrouilleDrillOld",
        Severity::Warning,
        HOUR,
        When::Above("debrouille_drill_last_age_seconds", 35.0 * 86400.0),
        proof_slow(&[(
            r#"debrouille_drill_last_age_seconds{job="debrouille",instance="a"}"#,
            "100x10 4000000x120 100x60",
        )]),
    ),
    alert(
        "DebrouilleDrillFailed",
        Severity::Critical,
        0,
        When::Below("debrouille_drill_passed", 1.0),
        proof(&[(r#"debrouille_drill_passed{job="debrouille",instance="a"}"#, "1x10 0x40 1x40")], ONE),
    ),
    alert(
        "DebrouilleAuditBehind",
        Severity::Critical,
        5 * MINUTE,
        When::Above("debrouille_audit_seal_lag_seconds", 300.0),
        proof(&[(r#"debrouille_audit_seal_lag_seconds{job="debrouille",instance="a"}"#, "1x10 900x40 1x40")], ONE),
    ),
    alert(
        "DebrouilleAuditUnwitnessed",
        Severity::Warning,
        HOUR,
        When::Above("debrouille_audit_witness_age_seconds", 86400.0),
        proof_slow(&[(
            r#"debrouille_audit_witness_age_seconds{job="debrouille",instance="a"}"#,
            "1x10 90000x120 1x60",
        )]),
    ),
    alert(
        "DebrouilleCertificateEnding",
        Severity::Critical,
        5 * MINUTE,
        When::EndsWithin("debrouille_certificate_end_timestamp_seconds", DAY),
        proof(
            &[(
                r#"debrouille_certificate_end_timestamp_seconds{job="debrouille",instance="a"}"#,
                "999999x10 3000x40 999999x40",
            )],
            ONE,
        ),
    ),
    alert(
        "DebrouilleCertificateFallback",
        Severity::Warning,
        15 * MINUTE,
        When::Above("debrouille_certificate_fallback", 0.0),
        proof(&[(r#"debrouille_certificate_fallback{job="debrouille",instance="a"}"#, "0x10 1x40 0x40")], ONE),
    ),
    alert(
        "DebrouilleCertificateFailing",
        Severity::Warning,
        6 * HOUR,
        When::Above("debrouille_certificate_failures", 0.0),
        Proof {
            series: &[(r#"debrouille_certificate_failures{job="debrouille",instance="a"}"#, "0x10 1x500 0x60")],
            fires: "480m",
            labels: ONE,
            over: "540m",
        },
    ),
    alert(
        "DebrouilleCertificateRevoked",
        Severity::Critical,
        0,
        When::Above("debrouille_certificate_revoked", 0.0),
        proof(&[(r#"debrouille_certificate_revoked{job="debrouille",instance="a"}"#, "0x10 1x40 0x40")], ONE),
    ),
    alert(
        "DebrouilleAlertsUntold",
        Severity::Warning,
        10 * MINUTE,
        When::Above("debrouille_alert_channel_failing", 2.0),
        proof(
            &[(r#"debrouille_alert_channel_failing{job="debrouille",instance="a",channel="mail"}"#, "0x10 3x40 0x40")],
            &[("channel", "mail"), ("instance", "a"), ("job", "debrouille")],
        ),
    ),
];

/// As [`proof`], wrong for two hours.
const fn proof_slow(series: &'static [(&'static str, &'static str)]) -> Proof {
    Proof { series, fires: "120m", labels: ONE, over: "160m" }
}
