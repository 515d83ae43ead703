//! A DNS server that answers as the test says: what a hostile owner of a domain has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const PORT: u16 = 53;
const A: u16 = 1;
const AAAA: u16 = 28;
/// Nobody may keep an answer.
const TTL: [u8; 4] = [0; 4];

/// What a lookup of a name gets.
#[derive(Clone, Debug)]
pub enum Records {
    /// These addresses in this order; none at all is an answer too.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NotFound,
    /// The server cannot say.
    Failure,
    /// An answer that is not one.
    Garbage,
    /// The answer comes later.
    Late(Duration, Vec<IpAddr>),
    /// No answer comes.
    Silence,
}

impl Records {
    /// The addresses in this list.
    ///
    /// # Panics
    /// When one is not an address.
    #[track_caller]
    pub fn of(addresses: &[&str]) -> Records {
        let parse = |address: &&str| address.parse().expect("an address");
        Records::Addresses(addresses.iter().map(parse).collect())
    }
}

/// A running DNS server on a loopback address of its own. Names that it was not told about do not
/// exist. Dropping it stops it.
pub struct Dns {
    address: Ipv4Addr,
    zone: Arc<Mutex<Zone>>,
}

#[derive(Default)]
struct Zone {
    names: HashMap<String, Name>,
    closed: bool,
}

struct Name {
    /// One for each lookup; the last one stays.
    records: Vec<Records>,
    /// How often each record type was asked for.
    asked: HashMap<u16, usize>,
}

impl Dns {
    /// Starts a server on port 53 of a free loopback address.
    ///
    /// # Panics
    /// Without the right to listen on port 53, which root has.
    pub fn start() -> Dns {
        let socket = bind();
        let SocketAddr::V4(address) = socket.local_addr().expect("the address we listen on") else {
            unreachable!("it listens on an IPv4 address")
        };
        let zone = Arc::new(Mutex::default());
        let server = Arc::clone(&zone);
        thread::spawn(move || serve(&socket, &server));
        Dns {
            address: *address.ip(),
            zone,
        }
    }

    /// Where it listens, on port 53.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Gives every lookup of `name` the same answer.
    pub fn answer(&self, name: &str, records: Records) -> &Dns {
        self.answer_in_turn(name, vec![records])
    }

    /// Gives the first lookup the first answer, and so on; the last one stays.
    pub fn answer_in_turn(&self, name: &str, records: Vec<Records>) -> &Dns {
        let asked = HashMap::new();
        lock(&self.zone)
            .names
            .insert(name.to_owned(), Name { records, asked });
        self
    }

    /// How often `name` was looked up since it got its answers.
    pub fn lookups(&self, name: &str) -> usize {
        let zone = lock(&self.zone);
        let asked = zone.names.get(name).and_then(|name| name.asked.get(&A));
        asked.copied().unwrap_or(0)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        lock(&self.zone).closed = true;
        // Wakes the server; if that fails, it stays asleep until the process ends.
        let _ = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.send_to(&[], (self.address, PORT)));
    }
}

/// Several runs of tests may share a machine.
fn bind() -> UdpSocket {
    let start = process::id();
    let candidates = (0..1000).map(|n| {
        let [.., high, low] = start.wrapping_add(n).to_be_bytes();
        Ipv4Addr::new(127, 53, high, low.max(1))
    });
    let mut last = None;
    for address in candidates {
        match UdpSocket::bind((address, PORT)) {
            Ok(socket) => return socket,
            Err(error) => last = Some(error),
        }
    }
    panic!(
        "cannot listen on port {PORT} of a loopback address, run these tests as root: {}",
        last.expect("an error")
    );
}

fn serve(socket: &UdpSocket, zone: &Mutex<Zone>) {
    let mut query = [0; 512];
    loop {
        let received = socket.recv_from(&mut query);
        if lock(zone).closed {
            return;
        }
        let Ok((length, client)) = received else {
            continue;
        };
        let Some(question) = Question::read(&query[..length]) else {
            continue;
        };
        let records = lock(zone).records(&question);
        if let Records::Late(delay, addresses) = records {
            let socket = socket.try_clone().expect("a second handle of the socket");
            thread::spawn(move || {
                thread::sleep(delay);
                // Whoever asked may be gone: that is the point of being late.
                let _ = socket.send_to(&question.answered(&addresses), client);
            });
            continue;
        }
        if let Some(answer) = question.answer(&records) {
            // A client that is gone needs no answer.
            let _ = socket.send_to(&answer, client);
        }
    }
}

impl Zone {
    fn records(&mut self, question: &Question) -> Records {
        let Some(name) = self.names.get_mut(&question.name) else {
            return Records::NotFound;
        };
        let asked = name.asked.entry(question.kind).or_default();
        let turn = (*asked).min(name.records.len() - 1);
        *asked += 1;
        name.records[turn].clone()
    }
}

/// The only question of a query (RFC 1035, section 4.1).
struct Question {
    id: [u8; 2],
    name: String,
    kind: u16,
    /// As it came, to be repeated in the answer.
    section: Vec<u8>,
}

impl Question {
    fn read(query: &[u8]) -> Option<Question> {
        const HEADER: usize = 12;
        let id = [*query.first()?, *query.get(1)?];
        let mut at = HEADER;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let kind = u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]);
        Some(Question {
            id,
            name: labels.join("."),
            kind,
            section: query.get(HEADER..at + 4)?.to_vec(),
        })
    }

    /// The bytes of the answer, or `None` for silence.
    fn answer(&self, records: &Records) -> Option<Vec<u8>> {
        const SERVER_FAILURE: u8 = 2;
        const NO_SUCH_NAME: u8 = 3;
        match records {
            Records::Addresses(addresses) | Records::Late(_, addresses) => {
                Some(self.answered(addresses))
            }
            Records::NotFound => Some(self.header(NO_SUCH_NAME, 0)),
            Records::Failure => Some(self.header(SERVER_FAILURE, 0)),
            Records::Garbage => {
                let mut answer = self.header(0, u16::MAX);
                answer.extend_from_slice(&[0xff; 64]);
                Some(answer)
            }
            Records::Silence => None,
        }
    }

    fn answered(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let mut records = Vec::new();
        let mut count = 0;
        for address in addresses {
            let data = match address {
                IpAddr::V4(ip) if self.kind == A => ip.octets().to_vec(),
                IpAddr::V6(ip) if self.kind == AAAA => ip.octets().to_vec(),
                _ => continue,
            };
            count += 1;
            records.extend_from_slice(&[0xc0, 12]); // The name of the question.
            records.extend_from_slice(&self.kind.to_be_bytes());
            records.extend_from_slice(&[0, 1]);
            records.extend_from_slice(&TTL);
            records.extend_from_slice(&[0, u8::try_from(data.len()).expect("4 or 16")]);
            records.extend_from_slice(&data);
        }
        let mut answer = self.header(0, count);
        answer.extend_from_slice(&records);
        answer
    }

    fn header(&self, code: u8, answers: u16) -> Vec<u8> {
        let [high, low] = answers.to_be_bytes();
        let mut bytes = self.id.to_vec();
        // An authoritative answer to a query with recursion desired, and recursion available.
        bytes.extend_from_slice(&[0x85, 0x80 | code, 0, 1, high, low, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.section);
        bytes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
