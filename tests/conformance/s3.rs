//! The suite of objects on real S3 servers, SeaweedFS and moto, directly and over links that break.

use crate::{
    objects::{self, bytes, get, key, names, put, refused},
    proxy::{Proxy, Weakness},
};
use debrouille_appliance::{
    backends::objects::{
        pace::Pace,
        s3::{Credential, Lock, Patience, S3, Settings},
    },
    base::{
        clock::{Clock, FixedClock, SharedClock, Stopwatch, SystemClock},
        trust,
    },
    ports::{Error, Result, objects::Objects},
};
use std::{
    io::{Read, Write},
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

/// Two parts.
const LONG: usize = (9 << 20) + 1;
const SERVERS: [&str; 2] = ["S3_URL", "S3_OTHER_URL"];

fn partner(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run ./scripts/test, which starts the servers"))
}

/// Of a place that is this test's own.
fn settings(url: &str, test: &str) -> Settings {
    let prefix = format!("{test}-{}-{}/", std::process::id(), SystemClock.now().0);
    Settings {
        endpoint: url.to_owned(),
        region: "us-east-1".to_owned(),
        path_style: true,
        bucket: "plain".to_owned(),
        prefix,
        credential: credential("full"),
        roots: Vec::new(),
        lock: None,
        pace: None,
        patience: Patience {
            connect: Duration::from_secs(2),
            stall: Duration::from_secs(2),
            attempts: 4,
            pause: Duration::from_millis(10),
        },
        abandoned: 86_400,
    }
}

fn credential(who: &str) -> Credential {
    Credential { key: who.to_owned(), secret: format!("secret-of-{who}").into() }
}

fn s3(settings: &Settings) -> S3 {
    S3::new(settings.clone(), Arc::new(SystemClock)).expect("a server's address")
}

fn each(test: &str, run: impl Fn(&Settings)) {
    for server in SERVERS {
        for bucket in ["plain", "versioned"] {
            run(&Settings { bucket: bucket.to_owned(), ..settings(&partner(server), test) });
        }
    }
}

#[test]
fn objects_in_a_bucket_appear_whole_and_once() {
    each("whole", |settings| objects::appear_whole_and_once(&s3(settings), LONG));
    each("two", |settings| objects::keep_the_first_of_two(&s3(settings), LONG));
    each("names", |settings| objects::keep_to_names(&s3(settings)));
}

#[test]
fn objects_dropped_leave_nothing_in_a_bucket() {
    each("dropped", |settings| {
        let s3 = s3(settings);
        objects::leave_nothing_of_what_is_dropped(&s3, LONG);
        assert_eq!(s3.unfinished().expect("a list"), 0);
    });
}

#[test]
fn a_bucket_is_listed_page_by_page() {
    for server in SERVERS {
        objects::list_more_than_a_page(&s3(&settings(&partner(server), "pages")));
    }
}

#[test]
fn what_is_deleted_beneath_is_gone_with_its_versions() {
    each("beneath", |settings| {
        objects::hold_others_beneath(&s3(settings));
        let beneath = s3(settings).beneath("subjects");
        put(&*beneath, "key", b"x").expect("written");
        assert!(beneath.delete("key").expect("deleted"));
        let prefix = format!("{}subjects/", settings.prefix);
        assert_eq!(versions(settings, &prefix), 0, "an erased key has no version left");
    });
    // Above, an old version stays where the bucket keeps them.
    let above = Settings { bucket: "versioned".to_owned(), ..settings(&partner("S3_URL"), "marker") };
    put(&s3(&above), "a", b"x").expect("written");
    assert!(s3(&above).delete("a").expect("deleted"));
    assert_eq!((names(&s3(&above)).len(), versions(&above, &above.prefix)), (0, 1));
}

/// Versions that are there, asked by another client.
fn versions(settings: &Settings, prefix: &str) -> usize {
    let script = "import sys, boto3, botocore.config as c\n\
        s3 = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='owner', \
        aws_secret_access_key='secret-of-owner', config=c.Config(s3={'addressing_style': 'path'}))\n\
        print(len(s3.list_object_versions(Bucket=sys.argv[2], Prefix=sys.argv[3]).get('Versions', [])))";
    let python = std::process::Command::new(partner("PYTHON"))
        .args(["-c", script, &settings.endpoint, &settings.bucket, prefix])
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&python.stdout).trim().to_owned();
    said.parse().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&python.stderr)))
}

#[test]
fn an_upload_left_behind_is_swept_and_a_living_one_is_not() {
    for server in SERVERS {
        let url = partner(server);
        let proxy = Proxy::before(&url);
        let direct = Settings { abandoned: -60, ..settings(&url, "sweep") };
        let through = Settings { endpoint: proxy.url(), ..direct.clone() };
        let mut upload = s3(&through).put_new("dead").expect("begun");
        upload.write_all(&bytes(LONG)).expect("written");
        // The link goes for good: not even the end of it can be told.
        proxy.next(usize::MAX, Weakness::Refuse);
        drop(upload);
        let s3 = s3(&direct);
        assert_eq!(s3.unfinished().expect("a list"), 1, "{server}");
        let mut living = s3.put_new("living").expect("begun");
        living.write_all(&bytes(LONG)).expect("written");
        assert_eq!(s3.unfinished().expect("a list"), 1, "{server}: the dead one is swept");
        put(&s3, "other", &bytes(LONG)).expect("written");
        assert!(living.reread().expect("the living one goes on").is_some());
        living.publish().expect("named");
        assert_eq!((s3.unfinished().expect("a list"), names(&s3)), (0, vec!["living".to_owned(), "other".to_owned()]));
    }
}

#[test]
fn the_right_to_write_is_enough_to_write_and_to_nothing_else() {
    let settings = settings(&partner("S3_URL"), "put");
    let (full, only) = (s3(&settings), s3(&Settings { credential: credential("put"), ..settings }));
    for (name, count) in [("long", LONG), ("short", 10)] {
        let mut upload = only.put_new(name).expect("begun");
        upload.write_all(&bytes(count)).expect("written");
        assert!(upload.reread().expect("the server vouches for it").is_none());
        upload.publish().expect("named");
        assert!(get(&full, name, 0) == Some(bytes(count)), "{name}");
        let mut late = only.put_new(name).expect("it cannot look");
        late.write_all(b"x").expect("written");
        assert_eq!(refused(late.publish()), "objects.exists", "{name}");
    }
    assert_eq!(refused(only.list()), "objects.forbidden");
    assert_eq!(refused(only.get("long", 0)), "objects.forbidden");
    assert_eq!(refused(only.size("long")), "objects.forbidden");
    assert_eq!(refused(only.delete("long")), "objects.forbidden");
    assert_eq!(names(&full), ["long", "short"]);
}

#[test]
fn what_is_locked_stays_and_a_bucket_without_locks_says_so() {
    let lock = |compliance| Some(Lock { compliance, days: 1 });
    for (server, compliance) in SERVERS.iter().flat_map(|server| [(server, true), (server, false)]) {
        let above =
            Settings { bucket: "locked".to_owned(), lock: lock(compliance), ..settings(&partner(server), "lock") };
        let inside = Settings { prefix: format!("{}x/", above.prefix), ..above.clone() };
        let locked = s3(&inside);
        put(&locked, "long", &bytes(LONG)).expect("written");
        put(&locked, "short", b"x").expect("written");
        // Hidden, not gone.
        assert!(locked.delete("long").expect("a marker"));
        assert_eq!((names(&locked), versions(&inside, &inside.prefix)), (vec!["short".to_owned()], 2), "{server}");
        // The same place without its lock, and with erasure: it cannot.
        let erasing = s3(&above).beneath("x");
        if *server == "S3_URL" {
            assert_eq!(refused(erasing.delete("short")), "objects.forbidden");
            assert_eq!(versions(&inside, &inside.prefix), 2);
        }
        // And nothing in it is locked.
        put(&*erasing, "free", b"x").expect("written");
        assert!(erasing.delete("free").expect("deleted"));
        assert_eq!(versions(&inside, &inside.prefix), 2);
    }
    for server in SERVERS {
        let plain = Settings { lock: lock(true), ..settings(&partner(server), "nolock") };
        assert_eq!(refused(put(&s3(&plain), "short", b"x")), "objects.no_lock", "{server}");
        assert_eq!(names(&s3(&plain)), Vec::<String>::new());
    }
    let plain = Settings { lock: lock(true), ..settings(&partner("S3_URL"), "nolock") };
    assert_eq!(refused(put(&s3(&plain), "long", &bytes(LONG))), "objects.no_lock");
}

#[test]
fn what_the_server_refuses_is_said_with_what_to_do() {
    let weed = settings(&partner("S3_URL"), "refused");
    let every = |settings: &Settings, expected: &str| {
        let s3 = s3(settings);
        assert_eq!(refused(s3.list()), expected);
        assert_eq!(refused(put(&s3, "short", b"x")), expected);
        assert_eq!(refused(put(&s3, "long", &bytes(LONG))), expected);
    };
    let secret = Credential { secret: "another".to_owned().into(), ..credential("full") };
    every(&Settings { credential: secret, ..weed.clone() }, "objects.credential");
    every(&Settings { credential: credential("nobody"), ..weed.clone() }, "objects.credential");
    let absent = |server| Settings { bucket: "absent".to_owned(), ..settings(&partner(server), "refused") };
    every(&absent("S3_OTHER_URL"), "objects.no_bucket");
    // SeaweedFS would make the bucket for who may.
    assert_eq!(refused(s3(&absent("S3_URL")).list()), "objects.no_bucket");
    assert_eq!(refused(put(&s3(&absent("S3_URL")), "short", b"x")), "objects.forbidden");
    every(&Settings { endpoint: "http://127.0.0.1:1".to_owned(), ..weed.clone() }, "objects.out_of_reach");
    every(&Settings { endpoint: "http://nowhere.invalid".to_owned(), ..weed.clone() }, "objects.out_of_reach");
    for minutes in [-60, 60] {
        let then = SystemClock.now().plus_seconds(minutes * 60).0;
        let clock: SharedClock = Arc::new(FixedClock(AtomicI64::new(then)));
        let skewed = S3::new(weed.clone(), clock).expect("an address");
        assert_eq!(refused(skewed.list()), "objects.clock", "{minutes}");
    }
}

#[test]
fn a_server_is_believed_by_its_authority_alone() {
    let url = partner("S3_TLS_URL");
    let roots = trust::listed(partner("S3_CA").as_ref()).expect("the authority");
    let trusting = Settings { roots, ..settings(&url, "tls") };
    put(&s3(&trusting), "long", &bytes(LONG)).expect("written");
    assert_eq!(names(&s3(&trusting)), ["long"]);
    for unknown in [
        Settings { roots: Vec::new(), ..trusting.clone() },
        Settings { roots: trust::certificates(None).expect("the system's"), ..trusting.clone() },
    ] {
        assert_eq!(refused(s3(&unknown).list()), "objects.tls");
    }
    // The right authority, and another name than the certificate's.
    let elsewhere = Settings { endpoint: url.replace("localhost", "localhost.localdomain"), ..trusting };
    assert!(["objects.tls", "objects.out_of_reach"].contains(&refused(s3(&elsewhere).list())));
}

/// Either it is there, whole, and was checked; or it failed in words, and nothing is there.
fn whole_or_nothing(result: &Result<()>, direct: &S3, bytes: &[u8], what: &str) {
    match result {
        Ok(()) => assert!(get(direct, "a", 0).as_deref() == Some(bytes), "{what}: named and not whole"),
        Err(error) => {
            assert_eq!(key(error), "objects.out_of_reach", "{what}");
            assert_eq!(names(direct), Vec::<String>::new(), "{what}: failed and there");
        }
    }
    let _ = direct.delete("a");
}

fn cut_everywhere(server: &str) {
    let url = partner(server);
    let proxy = Proxy::before(&url);
    let direct = settings(&url, "cut");
    let through = Settings { endpoint: proxy.url(), ..direct.clone() };
    let direct = s3(&direct);
    let part = 8 << 20;
    let late =
        [100_000, part, part + 1_000, part + 2_500, LONG, LONG + 1_000, LONG + 2_000, LONG + 3_000, LONG + 4_000];
    let requests = (0..3_000).step_by(250).chain(late).map(Weakness::CutRequests);
    // What is read back is an answer too.
    let answers = (0..2_500).step_by(125).chain([50_000, part, LONG]).map(Weakness::CutAnswers);
    let (long, short) = (bytes(LONG), bytes(1_000));
    let attempt = |bytes: &[u8], times: usize, weakness: Weakness| {
        proxy.next(times, weakness);
        let result = put(&s3(&through), "a", bytes);
        proxy.next(0, Weakness::None);
        result
    };
    for (turn, weakness) in requests.chain(answers).enumerate() {
        let what = |what: &str| format!("{server} {what} {weakness:?}");
        // What is cut once ends well.
        for (bytes, what) in [(&long, what("long")), (&short, what("short"))] {
            let result = attempt(bytes, 1, weakness);
            assert!(result.is_ok(), "{what}: {result:?}");
            whole_or_nothing(&result, &direct, bytes, &what);
        }
        // What is cut again and again ends.
        if turn % 3 == 0 {
            let result = attempt(&long, 3, weakness);
            whole_or_nothing(&result, &direct, &long, &what("thrice"));
        }
        // What is cut for good may be there without our knowing; then it is whole.
        if turn % 3 == 1 {
            let what = what("for good");
            match attempt(&long, usize::MAX, weakness) {
                Err(error) if names(&direct).is_empty() => assert_eq!(key(&error), "objects.out_of_reach", "{what}"),
                _ => assert!(get(&direct, "a", 0).as_deref() == Some(&long[..]), "{what}"),
            }
            let _ = direct.delete("a");
        }
    }
}

#[test]
fn a_link_cut_after_any_number_of_bytes_leaves_all_or_nothing() {
    cut_everywhere("S3_URL");
}

#[test]
fn a_link_cut_before_another_server_leaves_all_or_nothing() {
    cut_everywhere("S3_OTHER_URL");
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    for server in SERVERS {
        let url = partner(server);
        let proxy = Proxy::before(&url);
        let direct = settings(&url, "resume");
        let through = s3(&Settings { endpoint: proxy.url(), ..direct.clone() });
        let long = bytes(LONG);
        put(&s3(&direct), "long", &long).expect("written");
        for (cut, from) in [(1, 0), (2_000_000, 0), (3_000_000, 5_000_000)] {
            proxy.next(2, Weakness::CutAnswers(cut));
            assert!(get(&through, "long", from).as_deref() == Some(&long[from as usize..]), "{server} {cut} {from}");
        }
        proxy.next(usize::MAX, Weakness::CutAnswers(100_000));
        let mut some = Vec::new();
        // Each connection brings a little: it ends all the same.
        through.get("long", 0).expect("an answer").expect("there").read_to_end(&mut some).expect("read");
        assert!(some == long && proxy.connections() > 50, "{server}: {}", proxy.connections());
        let mut reader = through.get("long", 0).expect("an answer").expect("there");
        proxy.next(usize::MAX, Weakness::Refuse);
        let error: Error = reader.read_to_end(&mut some).expect_err("the link is gone").into();
        assert_eq!(key(&error), "objects.out_of_reach");
    }
}

#[test]
fn a_slow_link_is_waited_for_and_a_stalled_one_is_given_up() {
    let url = partner("S3_URL");
    let proxy = Proxy::before(&url);
    let direct = settings(&url, "slow");
    let mut through = Settings { endpoint: proxy.url(), ..direct.clone() };
    through.patience.stall = Duration::from_millis(800);
    through.patience.attempts = 2;
    let some = bytes(4_000_000);
    proxy.next(usize::MAX, Weakness::Slow(1_500_000));
    let watch = Stopwatch::start();
    put(&s3(&through), "slow", &some).expect("longer than a stall, and it moves");
    assert!(watch.elapsed() > Duration::from_secs(2));
    for after in [0, 300, 2_000_000] {
        proxy.next(usize::MAX, Weakness::Stall(after));
        let watch = Stopwatch::start();
        assert_eq!(refused(put(&s3(&through), "stalled", &bytes(LONG))), "objects.out_of_reach", "{after}");
        assert!(watch.elapsed() < Duration::from_secs(30), "{after}: {:?}", watch.elapsed());
    }
    assert_eq!(names(&s3(&direct)), ["slow"]);
}

#[test]
fn no_more_is_sent_than_the_limit_allows() {
    let paced = Settings { pace: Some(Pace::new(200_000)), ..settings(&partner("S3_URL"), "paced") };
    let some = bytes(500_000);
    let watch = Stopwatch::start();
    let mut upload = s3(&paced).put_new("a").expect("begun");
    upload.write_all(&some).expect("written");
    upload.publish().expect("named");
    assert!((2.2..6.0).contains(&watch.elapsed().as_secs_f64()), "{:?}", watch.elapsed());
    let watch = Stopwatch::start();
    assert!(get(&s3(&paced), "a", 0) == Some(some));
    assert!((2.2..6.0).contains(&watch.elapsed().as_secs_f64()), "{:?}", watch.elapsed());
}
