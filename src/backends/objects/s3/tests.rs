//! What no server at hand does: answers that lie, lack something or come late, from a script.

use super::*;
use crate::{
    base::clock::SystemClock,
    ports::{Error, objects::Upload},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    time::Duration,
};

/// Answers what each request's line begins with, each once and in any order; what it was asked.
fn script(answers: &[(&'static str, &str)]) -> (S3, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let mut answers: Vec<_> = answers.iter().map(|(asked, answer)| (*asked, (*answer).to_owned())).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap() > 2 {
                let line = head.lines().last().unwrap().to_ascii_lowercase();
                length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
            }
            std::io::copy(&mut reader.take(length), &mut std::io::sink()).unwrap();
            let place = answers.iter().position(|(asked, _)| head.starts_with(asked));
            let answer = place.map_or("404\r\n".to_owned(), |place| answers.remove(place).1);
            let (head_of, body) = answer.split_once("\r\n\r\n").unwrap_or((answer.trim_end(), ""));
            let (status, headers) = head_of.split_once("\r\n").unwrap_or((head_of, ""));
            let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
            heard.lock().unwrap().push(head);
            let _ = { stream }.write_all(answer.as_bytes());
        }
    });
    let patience = Patience { pause: Duration::from_millis(1), ..Patience::default() };
    let settings = Settings {
        endpoint,
        region: "here".to_owned(),
        path_style: true,
        bucket: "b".to_owned(),
        prefix: "p/".to_owned(),
        credential: Credential { key: "k".to_owned(), secret: Zeroizing::new("s".to_owned()) },
        roots: Vec::new(),
        lock: None,
        pace: None,
        patience,
        abandoned: 86_400,
    };
    (S3::new(settings, Arc::new(SystemClock)).unwrap(), asked)
}

fn upload(s3: &S3, bytes: &[u8]) -> Result<Box<dyn Upload>> {
    let mut upload = s3.put_new("a")?;
    upload.write_all(bytes)?;
    Ok(upload)
}

fn key(result: Result<()>) -> &'static str {
    match result {
        Err(Error::Rejected(fault) | Error::OutOfReach(fault)) => fault.key,
        other => panic!("{other:?}"),
    }
}

fn lines(asked: &Mutex<Vec<String>>) -> Vec<String> {
    let all = asked.lock().unwrap();
    all.iter().map(|head| head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned()).collect()
}

const STARTED: &str =
    "200\r\n\r\n<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
const LISTED: &str = "200\r\n\r\n<ListMultipartUploadsResult/>";

fn summed(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("200\r\netag: \"e\"\r\nx-amz-checksum-sha256: {}\r\n", STANDARD.encode(signature::sha256(bytes)))
}

#[test]
fn a_server_without_conditions_is_asked_without() {
    let (s3, asked) = script(&[("PUT /b/p/a", "501\r\n"), ("PUT /b/p/a", &summed(b"x"))]);
    upload(&s3, b"x").unwrap().publish().unwrap();
    let asked = asked.lock().unwrap();
    let conditions: Vec<_> = asked.iter().map(|head| head.contains("if-none-match: *")).collect();
    assert_eq!(conditions, [false, true, false], "HEAD, and two PUTs");
}

#[test]
fn a_server_that_keeps_other_bytes_is_found_out() {
    let (s3, _) = script(&[("PUT /b/p/a", &summed(b"y"))]);
    assert!(matches!(upload(&s3, b"x").unwrap().publish(), Err(Error::Corrupt(_))));
    let long = vec![1; (8 << 20) + 1];
    let (s3, asked) = script(&[("GET /b?", LISTED), ("POST /b/p/a?uploads", STARTED), ("PUT /b/p/a", &summed(b"y"))]);
    assert!(matches!(upload(&s3, &long), Err(Error::Corrupt(_))));
    assert_eq!(lines(&asked).last().unwrap(), "DELETE /b/p/a?uploadId=u");
}

#[test]
fn what_is_neither_confirmed_nor_read_back_bears_no_name() {
    let (s3, asked) = script(&[("PUT /b/p/a", "200\r\netag: \"e\"\r\n"), ("GET /b/p/a", "403\r\n")]);
    let mut written = upload(&s3, b"x").unwrap();
    assert_eq!(key(written.reread().map(drop)), "objects.unconfirmed");
    drop(written);
    assert_eq!(lines(&asked).last().unwrap(), "DELETE /b/p/a", "taken back");
    let (s3, asked) = script(&[("PUT /b/p/a", "200\r\netag: \"e\"\r\n")]);
    assert_eq!(key(upload(&s3, b"x").unwrap().publish()), "objects.unconfirmed");
    assert_eq!(lines(&asked).last().unwrap(), "DELETE /b/p/a");
}

#[test]
fn an_error_after_a_success_is_an_error() {
    let long = vec![1; (8 << 20) + 1];
    let (first, last) = (summed(&long[..8 << 20]), summed(&long[8 << 20..]));
    let (s3, asked) = script(&[
        ("GET /b?", LISTED),
        ("POST /b/p/a?uploads", STARTED),
        ("PUT /b/p/a?partNumber=1&", &first),
        ("PUT /b/p/a?partNumber=2&", &last),
        ("POST /b/p/a?uploadId", "200\r\n\r\n<Error><Code>InternalError</Code></Error>"),
    ]);
    assert_eq!(key(upload(&s3, &long).unwrap().publish()), "objects.out_of_reach");
    assert_eq!(lines(&asked).last().unwrap(), "DELETE /b/p/a?uploadId=u");
}

#[test]
fn a_busy_server_is_asked_again_and_a_wrong_one_is_not() {
    let busy = ["503\r\n", "500\r\n\r\n<Error><Code>InternalError</Code></Error>", "429\r\n"];
    let done = summed(b"x");
    let (s3, asked) =
        script(&busy.iter().chain([&done.as_str()]).map(|answer| ("PUT /b/p/a", *answer)).collect::<Vec<_>>());
    upload(&s3, b"x").unwrap().publish().unwrap();
    assert_eq!(lines(&asked).len(), 5);
    for (answer, expected) in [
        ("301\r\nx-amz-bucket-region: there\r\n", "objects.region"),
        ("403\r\n\r\n<Error><Code>SignatureDoesNotMatch</Code></Error>", "objects.credential"),
        ("403\r\n\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>", "objects.clock"),
        ("403\r\n\r\n<Error><Code>AccessDenied</Code></Error>", "objects.forbidden"),
        ("405\r\n", "objects.refused"),
    ] {
        let (s3, asked) = script(&[("PUT /b/p/a", answer)]);
        assert_eq!(key(upload(&s3, b"x").unwrap().publish()), expected);
        // The look before, the attempt, and whether something came of it.
        assert!(lines(&asked).iter().filter(|line| line.starts_with("PUT")).count() == 1, "{expected}");
    }
    let (s3, _) = script(&[("PUT /b/p/a", "507\r\n")]);
    assert!(matches!(upload(&s3, b"x").unwrap().publish(), Err(Error::Full(_))));
}

#[test]
fn a_list_that_makes_no_sense_is_no_empty_list() {
    for answer in ["200\r\n\r\n<html>welcome</html>", "200\r\n"] {
        let (s3, _) = script(&[("GET /b?", answer)]);
        assert_eq!(key(s3.list().map(drop)), "objects.refused");
    }
}

#[test]
fn ten_thousand_parts_hold_a_tebibyte_and_memory_holds_one() {
    let all: u64 = (0..10_000).map(|part| upload::part_bytes(part) as u64).sum();
    assert!(all >= 1 << 40);
    assert!((0..10_000).all(|part| (8 << 20..=224 << 20).contains(&upload::part_bytes(part))));
}
