//! Commands over a real instance: each flow goes the same whether the server runs or not.

use crate::{
    instance::{Instance, places, wait},
    stderr, stdout,
};
use serde_json::json;
use std::{io::Write, process::Stdio};

/// The flow without a server, then with one.
fn both(flow: fn(&Instance)) {
    let instance = Instance::new();
    flow(&instance);
    let instance = Instance::new();
    let server = instance.serve();
    flow(&instance);
    server.stop();
}

#[test]
fn init_makes_an_instance_once() {
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    let init = ["init", "--environment", "staging", "--hostname", "a.example", "10.0.0.1", "--admin-email", "a@b.cd"];
    let made = instance.answer(&init);
    assert_eq!(made["adminEmail"], "a@b.cd");
    assert_eq!(made["adminPassword"].as_str().unwrap().len(), 24);
    assert!(
        std::fs::read_to_string(made["authority"].as_str().unwrap().replace("data", instance.data().to_str().unwrap()))
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    let configuration = instance.read("appliance.toml");
    assert!(
        configuration.contains("environment = \"staging\"") && configuration.contains("\"10.0.0.1\""),
        "{configuration}"
    );
    assert!(!configuration.contains(made["adminPassword"].as_str().unwrap()));

    let again = instance.failure(&init, 3);
    assert!(again.contains("data"), "{again}");
    assert_eq!(instance.read("appliance.toml"), configuration);
    // The first instance is whole.
    assert_eq!(instance.answer(&["user", "list"])[0]["email"], "a@b.cd");
    // Another environment is not opened.
    let refused = crate::run(instance.command(&["user", "list"]).env("NODE_ENV", "production"));
    assert_eq!(refused.status.code(), Some(3), "{}", stderr(&refused));
}

#[test]
fn the_password_of_an_instance_that_is_made_is_told() {
    let folder = || Instance { folder: tempfile::tempdir().unwrap() };
    let init = ["init", "--environment", "development", "--hostname", "localhost"];
    // A configuration that cannot be written is found out first.
    let instance = folder();
    let mut command = crate::appliance(instance.folder.path());
    let output = crate::run(command.args(["--config", "/proc/absent/a.toml", "--data-dir", "data"]).args(init));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!instance.data().exists(), "made all the same");
    // It may lie in the data directory itself, which must be empty before.
    let mut command = crate::appliance(instance.folder.path());
    let output = crate::run(command.args(["--config", "data/a.toml", "--data-dir", "data"]).args(init));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(instance.data().join("a.toml").exists());

    // An answer that goes nowhere is not the last word.
    let instance = folder();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = instance.command(&init).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let password = said.split_whitespace().find(|word| word.trim_end_matches('.').len() == 24);
    assert!(password.is_some(), "{said}");
}

#[test]
fn no_instance_is_not_found() {
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    let output = crate::run(crate::appliance(instance.folder.path()).args([
        "--data-dir",
        "data",
        "collection",
        "list",
        "--lang",
        "fr",
    ]));
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).contains("init"), "what to do is said: {}", stderr(&output));
}

#[test]
fn documents_come_in_and_go_out() {
    both(|instance| {
        instance.failure(&["import", "places", "absent.ndjson"], 1);
        instance.write("places.ndjson", &places(1200));
        let unknown = instance.failure(&["import", "places", "places.ndjson"], 4);
        assert!(unknown.contains("places"), "{unknown}");
        instance.answer(&[
            "collection",
            "create",
            "places",
            "--index",
            "country,-population",
            "--unique",
            "population",
        ]);
        let again = instance.failure(&["collection", "create", "places"], 1);
        assert!(again.contains("places"), "{again}");
        let done = instance.answer(&["import", "places", "places.ndjson"]);
        assert_eq!((&done["created"], &done["failed"]), (&json!(1200), &json!(0)));

        let listed = instance.answer(&["collection", "list"]);
        assert_eq!((&listed[0]["name"], &listed[0]["documents"]), (&json!("places"), &json!(1200)));
        let found = instance.answer(&[
            "query",
            "places",
            "--filter",
            "{\"population\": {\"$gte\": 8379}}",
            "--sort",
            "-population",
        ]);
        let ids: Vec<&str> = found.as_array().unwrap().iter().map(|place| place["_id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["p01199", "p01198", "p01197"]);
        let sorted = ["query", "places", "--limit", "1", "--sort", "{\"population\": -1}"];
        assert_eq!(instance.answer(&sorted)[0]["_id"], "p01199");
        let explained = instance.answer(&["query", "places", "--filter", "{\"population\": 7}", "--explain"]);
        assert_eq!(explained["documentsExamined"], 1, "{explained}");

        let exported = instance.answer(&["export", "places", "-o", "out.ndjson"]);
        assert_eq!(exported["documents"], 1200);
        let whole = instance.read("out.ndjson");
        assert_eq!(whole.lines().count(), 1200);
        assert!(whole.contains("\"_id\":\"p00042\""), "{}", &whole[..200]);
        let some = instance.run(&["export", "places", "--filter", "{\"population\": {\"$lt\": 70}}"]);
        assert_eq!(stdout(&some).lines().count(), 10);

        // What came out goes in again.
        instance.answer(&["collection", "create", "copies"]);
        assert_eq!(instance.answer(&["import", "copies", "out.ndjson"])["created"], 1200);
        assert_eq!(instance.answer(&["import", "copies", "out.ndjson", "--upsert"])["updated"], 1200);

        let unasked = instance.failure(&["collection", "drop", "copies"], 3);
        assert!(unasked.contains("--yes"), "{unasked}");
        assert_eq!(instance.answer(&["collection", "drop", "copies", "--dry-run"])["dropped"], false);
        assert_eq!(instance.answer(&["collection", "describe", "copies"])["documents"], 1200);
        assert_eq!(instance.answer(&["collection", "drop", "copies", "--yes"])["dropped"], true);
        instance.failure(&["collection", "describe", "copies"], 4);
    });
}

#[test]
fn what_is_written_for_the_operator_is_theirs_alone() {
    use std::os::unix::fs::{MetadataExt, symlink};
    let instance = Instance::new();
    instance.answer(&["collection", "create", "places"]);
    instance.write("places.ndjson", &format!("{}{{\n", places(3)));
    instance.write("precious", "mine");
    for link in ["out.ndjson.partial", "errors.ndjson"] {
        symlink(instance.path("precious"), instance.path(link)).unwrap();
    }
    instance.failure(&["import", "places", "places.ndjson", "--errors", "errors.ndjson"], 1);
    instance.failure(&["import", "places", "places.ndjson", "--errors", "report.ndjson"], 1);
    instance.answer(&["export", "places", "-o", "out.ndjson"]);
    assert_eq!(instance.read("precious"), "mine", "a link was followed");
    for name in ["out.ndjson", "report.ndjson"] {
        assert!(!instance.read(name).is_empty());
        assert_eq!(instance.path(name).metadata().unwrap().mode() & 0o777, 0o600, "{name}");
    }
    let partial = std::fs::read_dir(instance.folder.path()).unwrap().flatten();
    let partial: Vec<_> = partial.map(|entry| entry.file_name()).filter(|name| *name != "out.ndjson.partial").collect();
    assert!(partial.iter().all(|name| !name.to_string_lossy().ends_with(".partial")), "{partial:?}");
}

#[test]
fn refused_lines_are_reported_and_the_rest_goes_on() {
    both(|instance| {
        let mut lines: Vec<String> = places(700).lines().map(str::to_owned).collect();
        lines[2] = "{\"broken\": ".to_owned();
        lines[600] = lines[0].clone();
        lines[650] = "[1]".to_owned();
        instance.write("places.ndjson", &lines.join("\n"));
        instance.answer(&["collection", "create", "places"]);
        let output = instance.run(&["import", "places", "places.ndjson", "--errors", "errors.ndjson", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let done: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!((&done["created"], &done["failed"], &done["lines"]), (&json!(697), &json!(3), &json!(700)));
        let errors = instance.read("errors.ndjson");
        let errors: Vec<serde_json::Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut found: Vec<(u64, &str)> =
            errors.iter().map(|error| (error["line"].as_u64().unwrap(), error["code"].as_str().unwrap())).collect();
        found.sort_unstable();
        assert_eq!(found, [(3, "VALIDATION_ERROR"), (601, "CONFLICT"), (651, "VALIDATION_ERROR")]);
        assert!(errors.iter().all(|error| error["message"].as_str().is_some_and(|words| !words.is_empty())));
        // Without a file they are told on stderr, in the reader's language.
        let told = instance.failure(&["import", "places", "places.ndjson"], 1);
        assert!(told.contains("Line 1: ") && told.contains("--errors FILE"), "{told}");
    });
}

#[test]
fn standard_input_is_imported_and_an_interrupted_file_resumed() {
    let instance = Instance::new();
    instance.answer(&["collection", "create", "places"]);
    let mut child =
        instance.command(&["import", "places", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(places(3).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(stdout(&output).contains("\"created\": 3"), "{}", stdout(&output));
    instance.failure(&["import", "places", "-", "--resume"], 2);

    instance.answer(&["collection", "create", "many"]);
    instance.write("many.ndjson", &places(30_000));
    let mut child = instance.command(&["import", "many", "many.ndjson"]).spawn().unwrap();
    let marks = instance.data().join("imports");
    let noted = |mark: std::fs::DirEntry| mark.path().extension().is_some_and(|kind| kind == "json");
    wait("a first chunk is noted", || std::fs::read_dir(&marks).is_ok_and(|marks| marks.flatten().any(noted)));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it had ended before it was killed");
    let resumed = instance.run(&["import", "many", "many.ndjson", "--resume", "--upsert", "--json"]);
    assert_eq!(resumed.status.code(), Some(0), "{}", stderr(&resumed));
    assert!(stderr(&resumed).contains("Going on from line "), "{}", stderr(&resumed));
    let done: serde_json::Value = serde_json::from_str(&stdout(&resumed)).unwrap();
    assert_eq!(done["lines"], 30_000);
    assert_eq!(instance.answer(&["collection", "describe", "many"])["documents"], 30_000);
    // Asked again, it is known to have ended: nothing is imported twice.
    let again = instance.answer(&["import", "many", "many.ndjson", "--resume"]);
    assert_eq!((&again["lines"], &again["failed"]), (&done["lines"], &done["failed"]));
    assert_eq!(instance.answer(&["collection", "describe", "many"])["documents"], 30_000);
}

#[test]
fn an_import_outlasts_the_rest_of_its_connection() {
    let instance = Instance::new();
    let text = instance.read("appliance.toml").replace("[server]\n", "[server]\nidle_seconds = 1\n");
    instance.write("appliance.toml", &text);
    let server = instance.serve();
    instance.answer(&["collection", "create", "places"]);
    let mut import = instance.command(&["import", "places"]).stdin(Stdio::piped()).spawn().unwrap();
    let places = places(1200);
    let (first, rest) = places.split_at(places.len() / 2);
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(first.as_bytes()).unwrap();
    let documents = || instance.answer(&["collection", "describe", "places"])["documents"].clone();
    wait("a first chunk is written", || documents() == 500);
    std::thread::sleep(std::time::Duration::from_secs(3));
    stdin.write_all(rest.as_bytes()).unwrap();
    drop(stdin);
    assert!(import.wait().unwrap().success());
    assert_eq!(documents(), 1200);
    server.stop();
}

#[test]
fn people_are_added_changed_and_disabled() {
    both(|instance| {
        instance.write("password", "une phrase de passe assez longue\n");
        let added = instance.answer(&["user", "add", "b@c.cd", "--role", "operator", "--password-file", "password"]);
        assert_eq!((&added["email"], &added["roles"]), (&json!("b@c.cd"), &json!(["operator"])));
        assert!(added["password"].is_null(), "a given password is not shown");
        instance.failure(&["user", "add", "b@c.cd", "--password-file", "password"], 1);
        let drawn = instance.answer(&["user", "passwd", "b@c.cd"]);
        assert_eq!(drawn["password"].as_str().unwrap().len(), 24);
        assert_eq!(instance.answer(&["user", "disable", "b@c.cd"])["status"], "disabled");
        assert_eq!(instance.answer(&["user", "enable", "b@c.cd"])["status"], "active");
        assert_eq!(instance.answer(&["user", "list"]).as_array().unwrap().len(), 2);
        instance.failure(&["user", "disable", "nobody@c.cd"], 4);
        let last = instance.failure(&["user", "disable", "admin@localhost"], 1);
        assert!(last.contains("admin@localhost"), "{last}");
    });
}

#[test]
fn organizations_have_members_and_accounts_come_by_the_line() {
    both(|instance| {
        instance.write("password", "une phrase de passe assez longue\n");
        let named =
            ["--phone", "+243 812 345 678", "--name", "Awa", "--locale", "fr-cd", "--password-file", "password"];
        let added = instance.answer(&[&["user", "add", "awa@c.cd"], &named[..]].concat());
        assert_eq!((&added["phone"], &added["locale"]), (&json!("+243812345678"), &json!("fr-CD")));
        let made = instance.answer(&["organization", "add", "Mairie", "--owner", "awa@c.cd", "--legal-id", "rccm 1"]);
        let organization = made["_id"].as_str().unwrap();
        instance.failure(&["organization", "add", "x", "--owner", "nobody@c.cd"], 4);
        let lines = [
            json!({ "email": "b@c.cd", "memberships": [{ "organization": organization, "role": "STAFF" }] }),
            json!({ "email": "awa@c.cd" }),
        ];
        instance.write("accounts", &lines.map(|line| format!("{line}\n")).concat());
        instance.failure(&["user", "import", "accounts", "--errors", "refused"], 1);
        let members = |arguments: &[&str]| instance.answer(&[&["membership", "list"], arguments].concat());
        assert_eq!(members(&["--organization", organization]).as_array().unwrap().len(), 2);
        let membership = members(&["--person", "b@c.cd"])[0]["_id"].as_str().unwrap().to_owned();
        assert_eq!(instance.answer(&["membership", "end", &membership])["status"], "ended");
        let again = instance.answer(&["membership", "add", "b@c.cd", organization, "--role", "ADMIN"]);
        assert_eq!(again["role"], "ADMIN");
        let shown = instance.answer(&["organization", "show", organization]);
        assert_eq!((&shown["legalId"], shown["members"].as_array().unwrap().len()), (&json!("RCCM1"), 2));
        instance.failure(&["user", "disable", "awa@c.cd"], 1);
        assert_eq!(instance.answer(&["organization", "disable", organization])["status"], "disabled");
        instance.failure(&["organization", "disable", added["_id"].as_str().unwrap()], 4);
        instance.answer(&["user", "disable", "awa@c.cd"]);
        assert_eq!(instance.answer(&["organization", "list"])[0]["status"], "disabled");
    });
}

#[test]
fn a_directory_in_use_is_unavailable() {
    let instance = Instance::new();
    instance.answer(&["collection", "create", "places"]);
    // An import waiting for more input holds the lock: more than a pipe holds is taken only once it has opened.
    let mut holder = instance.command(&["import", "places"]).stdin(Stdio::piped()).spawn().unwrap();
    holder.stdin.as_mut().unwrap().write_all(places(5000).as_bytes()).unwrap();
    let said = instance.failure(&["collection", "list"], 6);
    assert!(said.contains("documents.sealed"), "{said}");
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_eq!(instance.answer(&["collection", "describe", "places"])["documents"], 5000);
}

#[test]
fn doctor_says_what_holds_and_what_does_not() {
    let instance = Instance { folder: tempfile::tempdir().unwrap() };
    let absent = instance.run(&["doctor", "--json"]);
    // The file named is not there.
    assert_eq!(absent.status.code(), Some(1), "{}", stderr(&absent));
    let instance = Instance::new();
    // A port of its own, so that the running server is seen to hold it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ports = &format!("[server]\nhttps = \"127.0.0.1:{port}\"\nhttp = \"off\"\nops = \"off\"\n");
    instance.write("appliance.toml", ports);
    let checks = |level: &str| -> Vec<String> {
        let output = instance.run(&["doctor", "--json"]);
        let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        let checks = document["checks"].as_array().unwrap().iter().filter(|check| check["level"] == level);
        checks.map(|check| check["check"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(checks("failure"), Vec::<String>::new());
    assert!(checks("ok").contains(&"keys".to_owned()));
    let french = crate::run(instance.command(&["doctor"]).args(["--lang", "fr"]));
    assert_eq!(french.status.code(), Some(0), "{}", stdout(&french));
    assert!(stdout(&french).contains("ok        configuration"), "{}", stdout(&french));

    let server = instance.serve_as(&["serve"]);
    let running = stdout(&instance.run(&["doctor"]));
    assert!(running.contains("A server answers on data/control.sock"), "{running}");
    assert_eq!(checks("failure"), Vec::<String>::new());
    server.stop();

    instance.write("appliance.toml", "[server]\nhttsp = 1\n");
    assert_eq!(checks("failure"), ["configuration"]);
    instance.write("appliance.toml", ports);
    std::fs::remove_file(instance.data().join("root.key")).unwrap();
    assert_eq!(checks("failure"), ["keys"]);
}

#[test]
fn the_authority_and_the_description_of_the_api_are_written() {
    let instance = Instance::new();
    instance.answer(&["tls", "ca", "export", "-o", "ca.pem"]);
    assert!(instance.read("ca.pem").contains("BEGIN CERTIFICATE"));
    let openapi: serde_json::Value = serde_json::from_str(&stdout(&instance.run(&["openapi"]))).unwrap();
    assert!(openapi["paths"].as_object().unwrap().len() > 10);
}
