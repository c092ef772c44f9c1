//! What it is asked to bear: slow answers, more writes than its disk takes, more connections than it has files or places
//! for, no thread to be had.

use super::world::{Fault, World, figure, login};
use crate::appliance::{PASSWORD, Server, until};
use serde_json::Value;
use std::{
    cell::RefCell,
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

#[test]
fn answers_that_wait_for_a_slow_disk() {
    let world = World::new(&[]);
    let server = world.start();
    let fault = Fault::of(&server, "fdatasync", "delay_enter=700000");
    world.fires(&server, &["Slow", "MeanSlow"], 240, || assert_eq!(login(&server), "200"));
    drop(fault);
    world.ends(&server, &["Slow", "MeanSlow"], 240, || ());
    server.stop();
}

/// As many writes at once, each waiting for its answer.
fn writers(world: &World, server: &Server, token: &str) -> Vec<Child> {
    let url = server.url("/api/v1/collections/rows/documents#[1-290]");
    let writer = || {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--parallel", "--parallel-max", "290", "--max-time", "150", "--output", "/dev/null"]);
        curl.arg("--cacert").arg(world.instance.data.join("ca.crt"));
        curl.args(["-H", token, "-H", "content-type: application/json", "--data", r#"{"data":{"a":1}}"#, &url]);
        curl.stdin(Stdio::null()).spawn().unwrap()
    };
    (0..8).map(|_| writer()).collect()
}

#[test]
fn more_writes_than_the_disk_takes() {
    let world = World::new(&[]);
    let server = world.start();
    world.told(&["collection", "create", "rows"]);
    let body = format!(r#"{{"data":{{"email":"admin@example.cd","password":"{}"}}}}"#, PASSWORD);
    let login = server.curl(&["-H", "content-type: application/json", "-d", &body, &server.url("/api/v1/auth/login")]);
    let login: Value = serde_json::from_str(&login).unwrap();
    let token = format!("authorization: Bearer {}", login["data"]["accessToken"].as_str().unwrap());
    // Longer than this takes anywhere; it ends with the fault.
    let fault = Fault::of(&server, "fdatasync", "delay_enter=120000000");
    let mut writers = writers(&world, &server, &token);
    let waiting = || {
        world.forward(6);
        figure(&server, "debrouille_commit_queue_depth ") > 1000
    };
    assert!(until(60, waiting), "{}", figure(&server, "debrouille_commit_queue_depth "));
    world.fires(&server, &["CommitsQueued"], 60, || ());
    drop(fault);
    for writer in &mut writers {
        let _ = writer.wait();
    }
    world.ends(&server, &["CommitsQueued"], 120, || ());
    server.stop();
}

#[test]
fn more_connections_than_files() {
    let world = World::new(&[("DEBROUILLE_SERVER_HANDSHAKE_SECONDS", "120")]);
    let serve = world.serve();
    let mut command = Command::new("prlimit");
    command.env_clear().envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.args(["--nofile=250:250"]).arg(serve.get_program()).args(serve.get_args()).stdin(Stdio::null());
    let server = Server::of(command, &world.instance.data);
    let files = || fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap().count();
    let mut held = Vec::new();
    while files() < 220 {
        held.push(TcpStream::connect(server.https).unwrap());
        std::thread::sleep(Duration::from_millis(2));
    }
    world.fires(&server, &["FilesExhausted"], 60, || ());
    drop(held);
    world.ends(&server, &["FilesExhausted"], 120, || ());
    server.stop();
}

#[test]
fn more_connections_than_places() {
    let world = World::new(&[("DEBROUILLE_SERVER_HANDSHAKE_SECONDS", "120"), ("DEBROUILLE_SERVER_CONNECTIONS", "16")]);
    let server = world.start();
    let connect = || TcpStream::connect(server.https).unwrap();
    let held = RefCell::new((0..20).map(|_| connect()).collect::<Vec<_>>());
    // One goes, one comes.
    let turn = || {
        held.borrow_mut().remove(0);
        held.borrow_mut().push(connect());
    };
    world.fires(&server, &["ConnectionsRefused"], 60, turn);
    held.borrow_mut().clear();
    world.ends(&server, &["ConnectionsRefused"], 120, || ());
    assert_eq!(login(&server), "200");
    server.stop();
}

/// Work that wants a thread of its own, where the system gives none.
#[test]
fn a_panic_where_no_thread_is_to_be_had() {
    let world = World::new(&[]);
    let server = world.start();
    let fault = Fault::of(&server, "clone,clone3", "error=EPERM");
    let logins: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..12).map(|_| scope.spawn(|| login(&server))).collect();
        all.into_iter().map(|login| login.join().unwrap()).collect()
    });
    drop(fault);
    assert!(figure(&server, "debrouille_panics_total ") > 0, "{logins:?}");
    world.fires(&server, &["Panics"], 17, || ());
    assert_eq!(login(&server), "200", "it goes on");
    world.ends(&server, &["Panics"], 1200, || ());
    server.stop();
}
