//! A weak link: a TCP proxy that cuts, slows, stalls or refuses what goes through it.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    None,
    /// Connections end after so many bytes of requests.
    CutRequests(usize),
    /// Or of answers: what was asked for is done, and nobody hears of it.
    CutAnswers(usize),
    /// Bytes a second of requests.
    Slow(usize),
    /// After so many bytes of requests nothing moves any more, and nobody hangs up.
    Stall(usize),
    Refuse,
}

struct State {
    weakness: Weakness,
    /// Connections it still befalls.
    left: usize,
}

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Before the server of this URL.
    pub fn before(url: &str) -> Self {
        let upstream: SocketAddr = url.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { weakness: Weakness::None, left: 0 }));
        let connections = Arc::new(AtomicUsize::new(0));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (held, counted, kept) = (state.clone(), connections.clone(), open.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let weakness = {
                    let mut state = held.lock().unwrap();
                    if state.left == 0 {
                        Weakness::None
                    } else {
                        state.left -= 1;
                        state.weakness
                    }
                };
                if weakness == Weakness::Refuse {
                    continue;
                }
                let Ok(server) = TcpStream::connect(upstream) else { continue };
                kept.lock().unwrap().push(client.try_clone().expect("a handle"));
                carry(client, server, weakness);
            }
        });
        Self { address, state, connections, open }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next so many connections suffer from this. Those that are there end.
    pub fn next(&self, connections: usize, weakness: Weakness) {
        *self.state.lock().unwrap() = State { weakness, left: connections };
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.connections.store(0, Ordering::Relaxed);
    }

    /// How many there were since.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn carry(client: TcpStream, server: TcpStream, weakness: Weakness) {
    let (up, down) = match weakness {
        Weakness::CutRequests(bytes) => (bytes, usize::MAX),
        Weakness::CutAnswers(bytes) => (usize::MAX, bytes),
        _ => (usize::MAX, usize::MAX),
    };
    let (from, to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
    std::thread::spawn(move || pump(from, to, up, weakness));
    std::thread::spawn(move || pump(server, client, down, Weakness::None));
}

fn pump(mut from: TcpStream, mut to: TcpStream, bytes: usize, weakness: Weakness) {
    let (mut left, mut passed) = (bytes, 0);
    let mut buffer = vec![0; if let Weakness::Slow(_) = weakness { 4096 } else { 65_536 }];
    while left > 0 {
        let most = buffer.len().min(left);
        let Ok(count @ 1..) = from.read(&mut buffer[..most]) else { break };
        match weakness {
            Weakness::Slow(a_second) => std::thread::sleep(Duration::from_secs_f64(count as f64 / a_second as f64)),
            // Held open until the other side has had enough.
            Weakness::Stall(after) if passed + count > after => {
                while from.read(&mut [0]).is_ok_and(|count| count > 0) {
                    std::thread::sleep(Duration::from_millis(200));
                }
                break;
            }
            _ => {}
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        passed += count;
        left -= count;
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
