//! The table of every setting: its key, what it accepts, its default and its names in the environment.
//! The reader, `config show`, the example, the schema and `.env.example` all follow from it; its words are
//! `setting.KEY` in the catalogue.

/// What a setting accepts. Written as a word (environment, flag) or as its TOML type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Choice(&'static [&'static str]),
    /// Within these bounds, both included.
    Integer(i64, i64),
    Flag,
    Path,
    /// `ADDRESS:PORT`; a port alone keeps the address set below it. The flag says whether `off` is accepted.
    Address {
        off: bool,
    },
    /// DNS names or IP addresses.
    Hosts,
    /// A list of words, separated by commas in the environment.
    List,
    /// IP addresses and networks: `10.0.0.0/8`.
    Networks,
    /// `WORDS=INTEGER`.
    Pairs,
    /// Directives of the log filter: `info`, `info,debrouille_appliance::http=debug`.
    LogFilter,
    /// A place named by a URL of one of these schemes; the second list is known but not served yet.
    Place(&'static [&'static str], &'static [&'static str]),
    /// Never shown; at least so many bytes; `NAME_FILE` is read too.
    Secret(usize),
}

#[derive(Debug)]
pub struct Setting {
    /// `section.name`, as in the file.
    pub key: &'static str,
    pub kind: Kind,
    /// As a word; empty: none.
    pub default: &'static str,
    /// Names in the environment beside `DEBROUILLE_SECTION_NAME`.
    pub names: &'static [&'static str],
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, names: &'static [&'static str]) -> Setting {
    Setting { key, kind, default, names }
}

pub const SETTINGS: &[Setting] = &[
    setting(
        "instance.environment",
        Kind::Choice(&["development", "staging", "production"]),
        "",
        &["DEBROUILLE_ENVIRONMENT", "APP_ENV", "NODE_ENV"],
    ),
    setting("instance.data_dir", Kind::Path, "/var/lib/debrouille-appliance", &["DEBROUILLE_DATA_DIR"]),
    setting("instance.root_key_file", Kind::Path, "", &["DEBROUILLE_ROOT_KEY_FILE"]),
    setting("instance.credentials_dir", Kind::Path, "", &["CREDENTIALS_DIRECTORY"]),
    setting("server.hostnames", Kind::Hosts, "localhost", &["DEBROUILLE_HOSTNAME"]),
    setting("server.https", Kind::Address { off: false }, "0.0.0.0:443", &["DEBROUILLE_HTTPS", "API_PORT"]),
    setting("server.http", Kind::Address { off: true }, "0.0.0.0:80", &["DEBROUILLE_HTTP"]),
    setting("server.ops", Kind::Address { off: true }, "127.0.0.1:9464", &["DEBROUILLE_OPS"]),
    setting("server.connections", Kind::Integer(16, 65_536), "4096", &[]),
    setting("server.handshake_seconds", Kind::Integer(1, 120), "10", &[]),
    setting("server.header_seconds", Kind::Integer(1, 120), "10", &[]),
    setting("server.request_seconds", Kind::Integer(1, 600), "30", &[]),
    setting("server.idle_seconds", Kind::Integer(1, 3600), "75", &[]),
    setting("server.drain_seconds", Kind::Integer(1, 600), "25", &[]),
    setting("server.body_mib", Kind::Integer(1, 64), "16", &[]),
    setting("server.document_mib", Kind::Integer(1, 16), "1", &[]),
    setting("server.page_rows", Kind::Integer(1, 1000), "100", &[]),
    setting("server.trusted_proxies", Kind::Networks, "", &[]),
    setting("server.client_ca", Kind::Path, "", &[]),
    setting("limits.requests_per_minute", Kind::Integer(0, 100_000_000), "100", &[]),
    setting("limits.routes", Kind::Pairs, "", &[]),
    setting("trust.baseline", Kind::Integer(0, 100), "50", &[]),
    setting("trust.half_life_days", Kind::Integer(1, 365), "14", &[]),
    setting("trust.weights", Kind::Pairs, "", &[]),
    setting("tls.mode", Kind::Choice(&["internal", "files", "acme"]), "internal", &[]),
    setting("tls.certificate_days", Kind::Integer(2, 397), "90", &[]),
    setting("tls.certificate", Kind::Path, "", &[]),
    setting("tls.key", Kind::Path, "", &[]),
    setting("tls.trusted", Kind::Path, "", &[]),
    setting("acme.agree_terms", Kind::Flag, "false", &[]),
    setting("acme.issuers", Kind::List, "https://acme-v02.api.letsencrypt.org/directory", &[]),
    setting("acme.contact", Kind::Text, "", &[]),
    setting("acme.eab_keys", Kind::Secret(1), "", &[]),
    setting("acme.challenge", Kind::Choice(&["http-01", "tls-alpn-01", "dns-01"]), "http-01", &[]),
    setting("acme.dns_server", Kind::Text, "", &[]),
    setting("acme.dns_zone", Kind::Text, "", &[]),
    setting("acme.dns_key", Kind::Secret(1), "", &[]),
    setting("acme.dns_hook", Kind::Path, "", &[]),
    setting("acme.dns_wait_seconds", Kind::Integer(0, 3600), "20", &[]),
    setting("secrets.token_days", Kind::Integer(0, 3650), "90", &[]),
    setting("secrets.signing_days", Kind::Integer(0, 3650), "0", &[]),
    setting("secrets.storage_days", Kind::Integer(0, 3650), "365", &[]),
    setting("vault.address", Kind::Text, "", &[]),
    setting("vault.namespace", Kind::Text, "", &[]),
    setting("vault.token", Kind::Secret(1), "", &[]),
    setting("vault.role_id", Kind::Text, "", &[]),
    setting("vault.secret_id", Kind::Secret(1), "", &[]),
    setting("vault.transit_key", Kind::Text, "", &[]),
    setting("vault.transit_mount", Kind::Text, "transit", &[]),
    setting(
        "storage.database",
        Kind::Place(&["embedded"], &["mongodb", "mongodb+srv"]),
        "embedded:",
        &["DATABASE_URL"],
    ),
    setting("storage.cache", Kind::Place(&["memory"], &["redis", "rediss", "unix"]), "memory:", &["REDIS_URL"]),
    setting("storage.bucket", Kind::Place(&["folder"], &["s3"]), "folder:", &["STORAGE_BUCKET"]),
    setting("storage.cache_mib", Kind::Integer(1, 65_536), "32", &[]),
    setting("storage.reserve_mib", Kind::Integer(8, 65_536), "64", &[]),
    setting("storage.journal_days", Kind::Integer(1, 3650), "90", &[]),
    setting("storage.journal_mib", Kind::Integer(16, 1_048_576), "4096", &[]),
    setting("backup.targets", Kind::List, "", &[]),
    setting("backup.access_key", Kind::Secret(1), "", &["AWS_ACCESS_KEY_ID"]),
    setting("backup.secret_key", Kind::Secret(1), "", &["AWS_SECRET_ACCESS_KEY"]),
    setting("backup.recipients", Kind::List, "", &["DEBROUILLE_RECIPIENT"]),
    setting("backup.subject_days", Kind::Integer(1, 365), "30", &[]),
    setting("backup.schedule", Kind::Text, "0 2 * * *", &[]),
    setting("backup.timezone", Kind::Text, "", &[]),
    setting("backup.segment_seconds", Kind::Integer(1, 86_400), "60", &[]),
    setting("backup.keep", Kind::Pairs, "last=7,daily=14,weekly=8,monthly=12,yearly=3,within_days=7", &[]),
    setting("backup.drill_days", Kind::Integer(0, 3650), "35", &[]),
    setting("audit.witness", Kind::List, "", &[]),
    setting("audit.witness_token", Kind::Secret(16), "", &[]),
    setting("audit.keep_days", Kind::Integer(0, 36_500), "3650", &[]),
    setting("alerts.mail", Kind::List, "", &[]),
    setting("alerts.webhook", Kind::Secret(1), "", &[]),
    setting("alerts.webhook_secret", Kind::Secret(24), "", &[]),
    setting("alerts.push", Kind::Secret(1), "", &[]),
    setting("alerts.push_token", Kind::Secret(1), "", &[]),
    setting("alerts.sms_program", Kind::Path, "", &[]),
    setting("alerts.sms_numbers", Kind::List, "", &[]),
    setting("log.level", Kind::LogFilter, "info", &["DEBROUILLE_LOG"]),
    setting("log.format", Kind::Choice(&["json", "text"]), "json", &[]),
    setting("log.output", Kind::Choice(&["stdout", "off"]), "stdout", &[]),
    setting("log.dir", Kind::Path, "", &[]),
    setting("log.syslog", Kind::Text, "", &[]),
    setting("log.keep_files", Kind::Integer(1, 365), "14", &[]),
    setting("otlp.endpoint", Kind::Text, "", &["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    setting(
        "otlp.protocol",
        Kind::Choice(&["http/protobuf", "grpc"]),
        "http/protobuf",
        &["OTEL_EXPORTER_OTLP_PROTOCOL"],
    ),
    setting("otlp.headers", Kind::Secret(1), "", &["OTEL_EXPORTER_OTLP_HEADERS"]),
    setting("otlp.traces_percent", Kind::Integer(0, 100), "5", &[]),
    setting("otlp.logs", Kind::Flag, "true", &[]),
    setting("identity.origins", Kind::List, "", &[]),
    setting("identity.registration", Kind::Choice(&["off", "on"]), "off", &[]),
    setting("identity.calling_code", Kind::Integer(0, 999), "0", &[]),
    setting("identity.jwt_secret", Kind::Secret(32), "", &["JWT_SECRET"]),
    setting("identity.token_algorithm", Kind::Choice(&["EdDSA", "HS256"]), "EdDSA", &[]),
    setting("identity.recovery_url", Kind::Text, "", &[]),
    setting("identity.verification_url", Kind::Text, "", &[]),
    setting("mail.server", Kind::Text, "", &["SMTP_URL"]),
    setting("mail.password", Kind::Secret(1), "", &["SMTP_PASSWORD"]),
    setting("mail.from", Kind::Text, "", &["SMTP_FROM"]),
    setting("oidc.issuer", Kind::Text, "", &["OIDC_ISSUER"]),
    setting("oidc.client_id", Kind::Text, "", &["OIDC_CLIENT_ID"]),
    setting("oidc.client_secret", Kind::Secret(8), "", &["OIDC_CLIENT_SECRET"]),
    setting("oidc.redirect", Kind::Text, "", &["OIDC_REDIRECT"]),
    setting("oidc.create_accounts", Kind::Flag, "false", &[]),
    setting("ldap.url", Kind::Text, "", &[]),
    setting("ldap.starttls", Kind::Flag, "true", &[]),
    setting("ldap.trusted", Kind::Path, "", &[]),
    setting("ldap.user_dn", Kind::Text, "", &[]),
    setting("ldap.service_dn", Kind::Text, "", &[]),
    setting("ldap.service_password", Kind::Secret(1), "", &[]),
    setting("ldap.base", Kind::Text, "", &[]),
    setting("ldap.filter", Kind::Text, "", &[]),
    setting("ldap.mail_attribute", Kind::Text, "mail", &[]),
    setting("ldap.create_accounts", Kind::Flag, "false", &[]),
    setting("ldap.timeout_seconds", Kind::Integer(1, 25), "5", &[]),
    setting("update.source", Kind::Text, "", &[]),
    setting("update.root", Kind::Path, "/etc/debrouille-appliance/update-root.json", &[]),
    setting("update.directory", Kind::Path, "/var/lib/debrouille-appliance-updates", &[]),
    setting("update.channel", Kind::Choice(&["stable", "candidate"]), "stable", &[]),
    setting("update.pin", Kind::Text, "", &[]),
    setting("update.window", Kind::Text, "", &[]),
    setting("update.delay_minutes", Kind::Integer(0, 1440), "60", &[]),
    setting("update.automatic", Kind::Choice(&["off", "check", "download", "apply"]), "check", &[]),
    setting("update.packages", Kind::Choice(&["off", "on"]), "off", &[]),
    setting("update.unit", Kind::Text, "debrouille-appliance.service", &[]),
    setting("update.control", Kind::Path, "", &[]),
    setting("update.ready_seconds", Kind::Integer(1, 600), "30", &[]),
    setting("update.watch_minutes", Kind::Integer(0, 1440), "10", &[]),
];

impl Setting {
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// `("server", "https")`.
    pub fn parts(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or((self.key, ""))
    }

    pub fn message(&self) -> String {
        format!("setting.{}", self.key)
    }

    /// Every name it has in the environment, the product's own first.
    pub fn environment(&self) -> impl Iterator<Item = String> {
        let own = format!("DEBROUILLE_{}", self.key.replace('.', "_").to_uppercase());
        std::iter::once(own).chain(self.names.iter().map(|&name| name.to_owned()))
    }

    /// Several values.
    pub fn listed(&self) -> bool {
        matches!(self.kind, Kind::Hosts | Kind::List | Kind::Networks | Kind::Pairs)
    }

    pub fn secret(&self) -> bool {
        matches!(self.kind, Kind::Secret(_))
    }
}

/// The sections in the order of the table.
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = SETTINGS.iter().map(|setting| setting.parts().0).collect();
    sections.dedup();
    sections
}
