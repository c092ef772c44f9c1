//! `tls`: the certificate shown over HTTPS, another one, and the authority that clients must trust.

use super::{
    client::Client,
    collection::word,
    context::Context,
    failure::{Code, Failure, unreadable, unwritable},
    output,
};
use crate::{base::fault::Fault, server, services::certificates::Bundle};
use hyper::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub enum Command {
    Status,
    Renew,
    #[command(subcommand)]
    Ca(Authority),
}

#[derive(clap::Subcommand)]
pub enum Authority {
    Export {
        #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
        format: Format,
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum Format {
    #[default]
    Pem,
    Der,
    Mobileconfig,
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let (method, path) = match command {
        Command::Ca(Authority::Export { format, output }) => return export(context, format, output),
        Command::Status => (Method::GET, "/admin/certificate"),
        Command::Renew => (Method::POST, "/admin/certificate/renew"),
    };
    let mut client = Client::open(context, context.config(Vec::new())?).await?;
    let shown = client.call(method, path, None).await?.data;
    client.close().await?;
    context.answer(&shown, || described(context, &shown))
}

fn described(context: &Context, shown: &Value) -> String {
    let told = |key: &'static str, params: &[(&'static str, &str)]| {
        params.iter().fold(Fault::new(key), |told, (name, field)| told.with(name, word(&shown[*field])))
    };
    let names: Vec<_> = shown["names"].as_array().into_iter().flatten().map(word).collect();
    let params = [("issuer", "issuer"), ("mode", "mode"), ("from", "notBefore"), ("until", "notAfter")];
    let head = told("cli.tls.status", &params).with("names", names.join(" "));
    let mut lines = vec![head.with("fingerprint", word(&shown["fingerprint"]))];
    if shown["renewsAt"].is_string() {
        lines.push(told("cli.tls.renews", &[("time", "renewsAt")]));
    }
    if shown["fallback"] == true {
        lines.push(told("cli.tls.fallback", &[("mode", "mode")]));
    }
    if shown["nextAttemptAt"].is_string() {
        lines.push(told("cli.tls.next", &[("count", "failures"), ("time", "nextAttemptAt")]));
    }
    let mut lines: Vec<_> = lines.iter().map(|line| context.words(line)).collect();
    // In the reader's language already.
    lines.extend(shown["fault"].as_str().map(str::to_owned));
    if let Some(staple) = shown.get("staple") {
        lines.push(context.words(&stapled(staple)));
        lines.extend(staple["fault"].as_str().map(str::to_owned));
    }
    lines.join("\n")
}

/// What its authority says of it.
fn stapled(staple: &Value) -> Fault {
    let key = match staple["state"].as_str() {
        Some("good") => "cli.tls.stapled",
        Some("revoked") => "cli.tls.revoked",
        _ if staple.get("nextAttemptAt").is_none() => "cli.tls.unasked",
        _ => "cli.tls.unstapled",
    };
    let params = [("until", "nextUpdate"), ("since", "revokedAt"), ("time", "nextAttemptAt")];
    params.iter().fold(Fault::new(key), |told, (name, field)| match staple.get(field) {
        Some(value) => told.with(name, word(value)),
        None => told,
    })
}

/// It is public and lies in the data directory: no server is asked.
fn export(context: &Context, format: Format, path: Option<PathBuf>) -> Result<(), Failure> {
    let source = context.config(Vec::new())?.instance.data_dir.join(server::authority::FILE);
    let pem = std::fs::read_to_string(&source).map_err(|error| unreadable(source.display(), error))?;
    let malformed = || Failure::new(Code::Integrity, Fault::new("instance.malformed").at(source.display().to_string()));
    let bundle = Bundle::read(&pem).ok_or_else(malformed)?;
    let fingerprints = bundle.fingerprints();
    let bytes = match format {
        Format::Pem => bundle.pem().into_bytes(),
        Format::Der => bundle.der().to_vec(),
        Format::Mobileconfig => bundle.profile("Débrouille Appliance").into_bytes(),
    };
    match path {
        None if context.json => {
            context.answer(&json!({ "certificate": bundle.pem(), "fingerprints": fingerprints }), String::new)
        }
        None => output::write(&bytes),
        Some(path) => {
            std::fs::write(&path, bytes).map_err(|error| unwritable(path.display(), error))?;
            let shown = path.display().to_string();
            let told = Fault::new("cli.tls.exported").at(&shown).with("fingerprints", fingerprints.join(" "));
            context.done(&json!({ "file": shown, "fingerprints": fingerprints }), &told)
        }
    }
}
