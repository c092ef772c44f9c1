//! `init`: a new instance, its first administrator and its configuration.

use super::{
    context::Context,
    failure::{Code, Failure, unwritable},
    user,
};
use crate::{
    base::{
        clock::SystemClock,
        config::{Config, Entry, Kind, Origin},
        environment::Environment,
        fault::Fault,
        files, random,
    },
    server::init::{Init, Initialised, init},
};
use serde_json::json;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long, value_name = "ENV", value_parser = ["development", "staging", "production"])]
    environment: String,
    #[arg(long, value_name = "NAME", required = true, num_args = 1..)]
    hostname: Vec<String>,
    #[arg(long, value_name = "EMAIL")]
    admin_email: Option<String>,
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
    #[arg(long, value_name = "PUBKEY", num_args = 1..)]
    recipient: Vec<String>,
}

pub async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let mut flags = vec![
        ("instance.environment", "--environment", arguments.environment.clone()),
        ("server.hostnames", "--hostname", arguments.hostname.join(",")),
    ];
    if !arguments.recipient.is_empty() {
        flags.push(("backup.recipients", "--recipient", arguments.recipient.join(",")));
    }
    // The file may be named before it exists: it is written here.
    let config = context.load(flags, context.file_named && context.file.exists());
    let config = config.map_err(|faults| Failure::all(Code::Usage, faults))?;
    let environment = config.instance.environment.unwrap_or(Environment::Production);
    let email = arguments.admin_email.unwrap_or_else(|| "admin@localhost".to_owned());
    let password = arguments.admin_password_file.as_deref().map(user::from_file).transpose()?;
    let wanted = Init { environment, hostnames: config.server.hostnames.clone(), email: email.clone(), password };
    let wanting = wanting(context, &config)?;
    if !wanting.is_empty() || !context.file.exists() {
        check_place(&context.file, &config.instance.data_dir)?;
    }
    let made = init(&config, Arc::new(SystemClock), wanted).await.map_err(super::serve::failure)?;
    let written = write_configuration(context, &wanting);
    // The password is kept nowhere else: it is told whatever became of the configuration.
    tell(context, &config, &made, &email, written.as_ref().ok().copied())?;
    written.map(|_| ()).map_err(|failure| {
        context.complain(&failure);
        Failure::silent(failure.code)
    })
}

/// `written` is absent when the configuration could be neither written nor found.
fn tell(
    context: &Context,
    config: &Config,
    made: &Initialised,
    email: &str,
    written: Option<bool>,
) -> Result<(), Failure> {
    let data = config.instance.data_dir.display().to_string();
    let file = context.file.display().to_string();
    let mut document = json!({
        "id": made.stamp.id,
        "environment": made.stamp.environment,
        "dataDir": data,
        "adminEmail": email,
        "authority": made.authority,
        "signer": made.signer,
        "configuration": file,
        "configurationWritten": written == Some(true),
    });
    let mut words = vec![
        Fault::new("cli.init.done").with("id", &made.stamp.id).at(&data),
        Fault::new("cli.init.authority").at(made.authority.display().to_string()),
        Fault::new("cli.init.signer").with("signer", &made.signer),
        Fault::new("cli.init.administrator").with("email", email),
    ];
    if let Some(written) = written {
        words.push(Fault::new(if written { "cli.init.written" } else { "cli.init.kept" }).at(file));
    }
    let password = made.password.as_ref();
    let password = password.map(|password| Fault::new("cli.user.generated").with("password", password.as_str()));
    if let Some(password) = &made.password {
        document["adminPassword"] = password.as_str().into();
    }
    words.extend(password.clone());
    if made.stamp.environment != Environment::Development {
        words.push(Fault::new("cli.init.second_factor"));
    }
    words.push(Fault::new("cli.init.next").with("command", context.command()));
    let told = context.answer(&document, || words.iter().map(|fault| context.words(fault) + "\n").collect());
    if let (Err(_), Some(password)) = (&told, password) {
        eprintln!("{}", context.words(&password));
    }
    told
}

/// What was asked for and the file does not say. One that is there is kept, and must say nothing else: what was asked for
/// would be lost without a word.
fn wanting<'c>(context: &Context, config: &'c Config) -> Result<Vec<&'c Entry>, Failure> {
    let asked = config.entries.iter();
    if !context.file.exists() {
        return Ok(asked.filter(|entry| matches!(entry.origin, Origin::Flag { .. })).collect());
    }
    let kept = context.config(Vec::new())?;
    let differs = |(asked, kept): &(&Entry, &Entry)| asked.value != kept.value;
    let differing = asked.zip(&kept.entries).filter(differs);
    let (wanting, other): (Vec<_>, Vec<_>) = differing.partition(|(_, kept)| kept.origin == Origin::Default);
    let names: Vec<_> = other.iter().map(|(asked, _)| asked.setting.key).collect();
    if names.is_empty() {
        return Ok(wanting.into_iter().map(|(asked, _)| asked).collect());
    }
    let fault = Fault::new("cli.init.differs").at(context.file.display().to_string());
    Err(Failure::new(Code::Refused, fault.with("names", names.join(", "))))
}

/// Whether the configuration will find its place, before anything is made. Within the data directory, which must be
/// empty until the instance is there, it cannot be tried.
fn check_place(path: &Path, data: &Path) -> Result<(), Failure> {
    let failed = |error| unwritable(path.display(), error);
    if path.starts_with(data) {
        return Ok(());
    }
    // What a link names is what is written.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = folder(path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let probe = folder.join(format!(".{}", hex::encode(random::array::<8>())));
    files::create(&probe, &[], 0o600).map_err(failed)?;
    std::fs::remove_file(&probe).map_err(failed)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes what was asked for, or adds it to the file there is; answers whether there was anything to write.
fn write_configuration(context: &Context, wanting: &[&Entry]) -> Result<bool, Failure> {
    let path = &context.file;
    let failed = |error| unwritable(path.display(), error);
    if !path.exists() {
        std::fs::create_dir_all(folder(path)).map_err(failed)?;
        files::create(path, text(toml_edit::DocumentMut::new(), wanting).as_bytes(), 0o640).map_err(failed)?;
        return Ok(true);
    }
    if wanting.is_empty() {
        return Ok(false);
    }
    let kept = std::fs::read_to_string(path).map_err(failed)?;
    let document: toml_edit::DocumentMut = kept.parse().map_err(|error| failed(io::Error::other(error)))?;
    // Where there is nothing but comments, they are to stay at the head.
    let written = match document.is_empty() {
        true => format!("{kept}\n{}", text(toml_edit::DocumentMut::new(), wanting)),
        false => text(document, wanting),
    };
    files::rewrite(path, written.as_bytes()).map_err(failed)?;
    Ok(true)
}

fn text(mut document: toml_edit::DocumentMut, wanting: &[&Entry]) -> String {
    for entry in wanting {
        let (section, name) = entry.setting.parts();
        let value: toml_edit::Value = match &entry.value {
            serde_json::Value::Array(words) => words.iter().filter_map(serde_json::Value::as_str).collect(),
            serde_json::Value::Number(number) => number.as_i64().unwrap_or_default().into(),
            serde_json::Value::Bool(flag) => (*flag).into(),
            // Whoever reads the file stands elsewhere.
            other if entry.setting.kind == Kind::Path => {
                let path = other.as_str().unwrap_or_default();
                std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string()).into()
            }
            other => other.as_str().unwrap_or_default().into(),
        };
        let table = document.entry(section).or_insert_with(toml_edit::table);
        table[name] = toml_edit::value(value);
    }
    document.to_string()
}
