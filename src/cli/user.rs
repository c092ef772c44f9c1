//! `user`: the people of the instance.

use super::{
    client::{Client, segment},
    collection::word,
    context::Context,
    failure::{Code, Failure, unreadable},
    import, output,
};
use crate::base::{fault::Fault, messages::text, random};
use hyper::Method;
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Read},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

#[derive(clap::Subcommand)]
pub enum Command {
    Add {
        email: String,
        #[arg(long)]
        phone: Option<String>,
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        #[arg(long, value_name = "LANG")]
        locale: Option<String>,
        #[arg(long, value_name = "ROLE", value_parser = ["admin", "operator", "auditor"])]
        role: Vec<String>,
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[arg(long, conflicts_with = "password_file")]
        machine: bool,
    },
    List,
    Passwd {
        email: String,
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    Disable {
        email: String,
    },
    Enable {
        email: String,
    },
    ResetMfa {
        email: String,
        #[arg(long)]
        yes: bool,
    },
    Recover {
        email: String,
    },
    Import(import::Lines),
}

pub async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    if let Command::Import(lines) = command {
        let target = import::Target { path: "/admin/identities/import".to_owned(), must_be: None };
        let arguments = import::Arguments { collection: "system.identities".to_owned(), lines };
        return import::carry(context, &target, &arguments).await;
    }
    let config = context.config(Vec::new())?;
    // Asked for before anything is opened: a person typing must hold no lock.
    let password = match &command {
        Command::Add { machine: true, .. } => None,
        Command::Add { password_file, .. } | Command::Passwd { password_file, .. } => {
            Some(choose(context, password_file.as_deref())?)
        }
        _ => None,
    };
    if let Command::ResetMfa { email, yes } = &command {
        context.confirm(&Fault::new("cli.user.confirm_reset").with("email", email), email, *yes)?;
    }
    let mut client = Client::open(context, config).await?;
    match (command, password) {
        (Command::Add { email, phone, name, locale, role, .. }, Some(password)) => {
            let mut data = json!({ "email": email, "password": *password.words, "roles": role });
            for (field, value) in [("phone", phone), ("name", name), ("locale", locale)] {
                if let Some(value) = value {
                    data[field] = value.into();
                }
            }
            let answer = client.post("/admin/identities", data).await?;
            told(context, answer.data, &password, &Fault::new("cli.user.added").with("email", &email))?;
        }
        (Command::Add { email, role, .. }, None) => {
            let answer = client.post("/admin/machines", json!({ "name": email, "roles": role })).await?;
            context.done(&answer.data, &Fault::new("cli.user.machine_added").with("name", &email))?;
        }
        (Command::Passwd { email, .. }, Some(password)) => {
            let path = format!("/admin/identities/{}/password", segment(&email));
            let answer = client.call(Method::PUT, &path, Some(json!({ "password": *password.words }))).await?;
            told(context, answer.data, &password, &Fault::new("cli.user.password_changed").with("email", &email))?;
        }
        (Command::ResetMfa { email, .. }, _) => {
            let path = format!("/admin/identities/{}/factors", segment(&email));
            let answer = client.call(Method::DELETE, &path, None).await?;
            context.done(&answer.data, &Fault::new("cli.user.reset").with("email", &email))?;
        }
        (Command::Disable { email }, _) => set(context, &mut client, &email, "disabled", "cli.user.disabled").await?,
        (Command::Enable { email }, _) => set(context, &mut client, &email, "active", "cli.user.enabled").await?,
        (Command::Recover { email }, _) => {
            let path = format!("/admin/identities/{}/recovery", segment(&email));
            let answer = client.post(&path, json!({})).await?;
            let link = word(&answer.data["link"]);
            let words = Fault::new("cli.user.recovery").with("email", &email).with("link", link);
            context.answer(&answer.data, || context.words(&words))?;
        }
        _ => list(context, &mut client).await?,
    }
    client.close().await
}

async fn set(
    context: &Context,
    client: &mut Client,
    email: &str,
    status: &str,
    done: &'static str,
) -> Result<(), Failure> {
    let path = format!("/admin/identities/{}/status", segment(email));
    let answer = client.call(Method::PUT, &path, Some(json!({ "status": status }))).await?;
    context.done(&answer.data, &Fault::new(done).with("email", email))
}

async fn list(context: &Context, client: &mut Client) -> Result<(), Failure> {
    let answer = client.get("/admin/identities").await?;
    let rows: Vec<[String; 6]> = answer
        .data
        .as_array()
        .into_iter()
        .flatten()
        .map(|identity| {
            let roles = identity["roles"].as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join(", ");
            let field = |name: &str| word(&identity[name]);
            [field("email"), field("phone"), field("name"), roles, field("status"), field("_id")]
        })
        .collect();
    let header =
        ["cli.user.email", "cli.user.phone", "cli.user.name", "cli.user.roles", "cli.user.status", "cli.user.id"];
    context.answer(&answer.data, || output::table(header.map(|key| text(context.language, key)), &rows))
}

/// A password and whether it was made here, to be shown once.
struct Password {
    words: Zeroizing<String>,
    generated: bool,
}

/// From a file (`-`: stdin), else asked on the terminal, else made.
fn choose(context: &Context, file: Option<&Path>) -> Result<Password, Failure> {
    if let Some(path) = file {
        return Ok(Password { words: from_file(path)?, generated: false });
    }
    if !std::io::stdin().is_terminal() || context.json {
        return Ok(Password { words: random::password(), generated: true });
    }
    let ask = |key| {
        let prompt = format!("{} ", text(context.language, key));
        rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| unreadable("stdin", error))
    };
    let words = ask("cli.user.ask")?;
    if ask("cli.user.ask_again")? != words {
        return Err(Failure::new(Code::Usage, Fault::new("cli.user.differ")));
    }
    Ok(Password { words, generated: false })
}

/// The first line of a file, or of stdin.
pub fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut words = Zeroizing::new(String::new());
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut words).map_err(|error| unreadable("stdin", error))?;
    } else {
        let mut file = std::fs::File::open(path).map_err(|error| unreadable(path.display(), error))?;
        file.read_to_string(&mut words).map_err(|error| unreadable(path.display(), error))?;
    }
    let first = words.lines().next().unwrap_or_default();
    if first.is_empty() {
        return Err(Failure::new(Code::Usage, Fault::new("cli.user.empty_file").at(path.display().to_string())));
    }
    Ok(Zeroizing::new(first.to_owned()))
}

/// The answer, with a password made here.
fn told(context: &Context, mut data: Value, password: &Password, done: &Fault) -> Result<(), Failure> {
    if password.generated && data.is_object() {
        data["password"] = password.words.as_str().into();
    }
    context.answer(&data, || {
        let mut words = context.words(done);
        if password.generated {
            words.push('\n');
            words.push_str(&context.words(&Fault::new("cli.user.generated").with("password", password.words.as_str())));
        }
        words
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_file_is_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "une phrase de passe\nrest\n").unwrap();
        assert_eq!(*from_file(&path).unwrap(), "une phrase de passe");
        std::fs::write(&path, "\n").unwrap();
        assert!(from_file(&path).is_err());
    }
}
