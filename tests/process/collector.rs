//! Traces and lines of the real binary, as a real collector took them: over HTTP and gRPC, with and without TLS.

use crate::appliance::{Instance, PASSWORD, Server, until};
use serde_json::Value;
use std::{fs, net::TcpListener, process::Command};

const PARENT: &str = "4bf92f3577b34da6";

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts a collector"))
}

/// What the collector printed of one instance: a paragraph for each span and line.
fn taken(instance: &Instance) -> Vec<String> {
    let stamp: Value = serde_json::from_slice(&fs::read(instance.data.join("instance.json")).unwrap()).unwrap();
    let own = format!("service.instance.id: Str({})", stamp["id"].as_str().unwrap());
    let text = fs::read_to_string(partner("COLLECTOR_TAKEN")).unwrap();
    let resources = text.split("\nResource").filter(|resource| resource.contains(&own));
    let parts = resources.flat_map(|resource| resource.split("\nLogRecord #").flat_map(|part| part.split("\nSpan #")));
    parts.map(str::to_owned).collect()
}

fn field<'a>(part: &'a str, name: &str) -> &'a str {
    let line = part.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
    line.split_once(": ").map_or("", |(_, value)| value.trim())
}

fn serve(instance: &Instance, protocol: &str, url: &str, percent: &str) -> Server {
    let mut command = instance.serve();
    command.env("DEBROUILLE_OTLP_ENDPOINT", url).env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    command.env("DEBROUILLE_OTLP_TRACES_PERCENT", percent).env("DEBROUILLE_TLS_TRUSTED", partner("COLLECTOR_CA"));
    Server::of(command, &instance.data)
}

fn login(server: &Server) -> String {
    let body = format!(r#"{{"data": {{"email": "admin@example.cd", "password": "{PASSWORD}"}}}}"#);
    let answer = server.curl(&["-H", "content-type: application/json", "-d", &body, &server.url("/api/v1/auth/login")]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    format!("authorization: Bearer {}", answer["data"]["accessToken"].as_str().unwrap())
}

#[test]
fn a_trace_tells_every_step_of_a_request_that_another_system_began() {
    let ways = [
        ("http/protobuf", "COLLECTOR_URL"),
        ("http/protobuf", "COLLECTOR_TLS_URL"),
        ("grpc", "COLLECTOR_GRPC_URL"),
        ("grpc", "COLLECTOR_GRPC_TLS_URL"),
    ];
    for (protocol, url) in ways {
        let instance = Instance::new();
        let server = serve(&instance, protocol, &partner(url), "0");
        let bearer = login(&server);
        let parent = format!("traceparent: 00-{PARENT}{PARENT}-00f067aa0ba902b7-01");
        let ask = |path: &str, more: &[&str]| {
            server.curl(&[&["-H", &*bearer, "-H", &*parent], more, &[&*server.url(path)]].concat())
        };
        let made =
            ask("/api/v1/collections", &["-H", "content-type: application/json", "-d", r#"{"data": {"name": "c"}}"#]);
        assert!(made.contains("\"success\":true"), "{made}");
        // One that nobody asked to keep is not kept: it would come before the next.
        server.curl(&[&server.url("/api/v1/meta")]);
        ask("/api/v1/collections/c/documents", &[]);
        let of =
            |name: &str| taken(&instance).into_iter().filter(|part| field(part, "Name ") == name).collect::<Vec<_>>();
        let (list, make) = ("GET /api/v1/collections/{collection}/documents", "POST /api/v1/collections");
        assert!(until(20, || of(list).len() == 1 && of(make).len() == 1), "{url}: {:?}", taken(&instance));
        let root = of(list).remove(0);
        assert_eq!(field(&root, "Trace ID"), format!("{PARENT}{PARENT}"), "{root}");
        assert_eq!((field(&root, "Parent ID"), field(&root, "Kind")), ("00f067aa0ba902b7", "SPAN_KIND_SERVER"));
        assert_eq!(field(&root, "-> http.response.status_code"), "Int(200)");
        assert!(field(&root, "-> enduser.pseudo.id").starts_with("Str(~"), "{root}");
        let find = of("documents find").into_iter().find(|part| part.contains("Str(c)")).unwrap();
        assert_eq!((field(&find, "Parent ID"), field(&find, "Kind")), (field(&root, "ID"), "SPAN_KIND_CLIENT"));
        assert!(of("plan").iter().any(|part| field(part, "Parent ID") == field(&find, "ID")));
        let within = |name: &str, root: &str| of(name).iter().any(|part| field(part, "Parent ID") == field(root, "ID"));
        let make = of(make).remove(0);
        assert!(within("policy decision", &root) && within("documents commit", &make), "{:?}", taken(&instance));
        assert!(of("GET /api/v1/meta").is_empty());
        // Its lines, with the ids of what they are part of where there is one.
        let line =
            |words: &str| taken(&instance).into_iter().find(|part| field(part, "Body") == format!("Str({words})"));
        assert!(until(20, || line("ready").is_some()), "{:?}", taken(&instance));
        let ready = line("ready").unwrap();
        assert_eq!((field(&ready, "SeverityText"), field(&ready, "Trace ID")), ("INFO", ""), "{ready}");
        server.stop();
        assert!(until(20, || line("draining").is_some()), "{:?}", taken(&instance));
    }
}

/// A login whose body comes so many seconds after its head; answers the status.
fn late_login(server: &Server, seconds: &str) -> String {
    let body = r#"{"data": {"email": "nobody@example.cd", "password": "wrong"}}"#;
    let head = format!(
        "POST /api/v1/auth/login HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Type: application/json\\r\\nContent-Length: {}\\r\\nConnection: close\\r\\n\\r\\n",
        body.len()
    );
    let talk = format!(
        "(printf '{head}'; sleep {seconds}; printf '{body}'; sleep 3) | openssl s_client -quiet -connect {} 2>/dev/null",
        server.https
    );
    let told = Command::new("sh").args(["-c", &talk]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    told.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn what_is_slow_or_failed_is_kept_whoever_asked_and_stands_beside_the_figures() {
    let instance = Instance::new();
    let mut command = instance.serve();
    command.env("DEBROUILLE_OTLP_ENDPOINT", partner("COLLECTOR_URL")).env("DEBROUILLE_OTLP_TRACES_PERCENT", "0");
    command.env("DEBROUILLE_SERVER_REQUEST_SECONDS", "2");
    let server = Server::of(command, &instance.data);
    let kept = || taken(&instance).into_iter().filter(|part| part.contains("SPAN_KIND_SERVER")).collect::<Vec<_>>();
    assert_eq!(late_login(&server, "0.7"), "401");
    assert!(until(20, || kept().len() == 1), "{:?}", kept());
    let slow = kept().remove(0);
    // A figure has its newest trace beside it: not that of the next yet.
    let beside = format!("# {{trace_id=\"{}\"}}", field(&slow, "Trace ID"));
    assert!(server.ops("/metrics").1.contains(&beside), "{}", server.ops("/metrics").1);
    // Who is nobody known is not listened to; it would come before the next.
    server.curl(&["-H", &format!("traceparent: 00-{PARENT}{PARENT}-00f067aa0ba902b7-01"), &server.url("/api/v1/meta")]);
    assert_eq!(late_login(&server, "2.5"), "503");
    assert!(until(20, || kept().len() == 2), "{:?}", kept());
    let failed = kept().remove(1);
    assert_eq!(field(&slow, "Name "), "POST /api/v1/auth/login");
    assert_eq!((field(&slow, "-> http.response.status_code"), slow.contains("error.type")), ("Int(401)", false));
    assert_eq!(
        (field(&failed, "-> http.response.status_code"), failed.contains("error.type")),
        ("Int(503)", true),
        "{failed}"
    );
    assert_eq!(kept().len(), 2, "one that nobody known asked for was kept");
    server.stop();
}

#[test]
fn what_is_kept_waits_for_a_collector_that_is_away() {
    let instance = Instance::new();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = serve(&instance, "http/protobuf", &format!("http://{gone}"), "100");
    server.curl(&[&server.url("/api/v1/meta")]);
    let metrics = || server.ops("/metrics").1;
    assert!(until(20, || metrics().contains("debrouille_collector_failing 1")), "{}", metrics());
    assert!(!metrics().contains("fate=\"sent\""), "{}", metrics());
    // It comes to be there: rotel, by the TLS front of another port, is not; so the same port is opened by a carrier.
    let carrier = TcpListener::bind(gone).unwrap();
    let rotel = partner("COLLECTOR_URL").replace("http://", "");
    std::thread::spawn(move || {
        for stream in carrier.incoming().flatten() {
            let behind = std::net::TcpStream::connect(&rotel).unwrap();
            let (mut from, mut to) = (stream.try_clone().unwrap(), behind.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut &behind, &mut &stream));
        }
    });
    let meta = || taken(&instance).iter().any(|part| field(part, "Name ") == "GET /api/v1/meta");
    assert!(until(60, meta), "{:?}", taken(&instance));
    assert!(taken(&instance).iter().any(|part| field(part, "Name ").starts_with("job ")), "{:?}", taken(&instance));
    assert!(until(10, || metrics().contains("debrouille_collector_items_total{kind=\"traces\",fate=\"sent\"}")));
    server.stop();
}

#[test]
fn a_collector_that_cannot_be_one_is_refused_at_the_start() {
    let instance = Instance::new();
    for (name, value, words) in [
        ("DEBROUILLE_OTLP_ENDPOINT", "http://collector.example.cd:4318", "otlp.endpoint"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret-without-a-name", "otlp.headers"),
    ] {
        let mut command = instance.serve();
        command.env("DEBROUILLE_OTLP_ENDPOINT", "http://127.0.0.1:4318").env(name, value);
        let (code, said) = instance.refused(command);
        assert!(code != 0 && said.contains(words) && !said.contains("s3cret"), "{said}");
    }
}
