//! A name server that knows what a test tells it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is answered for a name.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Addresses, with their time to live in seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// Nothing at all.
    Silence,
    /// SERVFAIL.
    Failure,
    /// An alias, which may lead to itself or in a circle.
    Alias(String),
    /// So many addresses of this machine, in one message, however long that gets.
    Huge(u16),
    /// An answer that says it is cut off. Nobody answers over TCP.
    Cut,
}

/// Answers over UDP until the process ends; an unknown name does not exist.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    questions: Arc<AtomicUsize>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answers: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let questions = Arc::new(AtomicUsize::new(0));
        let (known, count) = (Arc::clone(&answers), Arc::clone(&questions));
        std::thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet) {
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(reply) = reply(&packet[..length], &known.lock().unwrap()) {
                    socket.send_to(&reply, peer).ok();
                }
            }
        });
        Self { address, answers, questions }
    }

    pub(crate) fn set(&self, name: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(name.to_owned(), answer);
    }

    pub(crate) fn address_of(&self, name: &str, address: [u8; 4]) {
        self.set(name, Answer::Addresses(vec![address.into()], 60));
    }

    /// How many questions were asked so far.
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }

    /// The configuration that asks here.
    pub(crate) fn config(&self) -> String {
        format!("upstream.nameservers = ['{}']\n", self.address)
    }
}

/// The reply to a question for one name, RFC 1035 section 4.
fn reply(question: &[u8], known: &HashMap<String, Answer>) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while let Some(&length @ 1..) = question.get(at) {
        labels.push(
            String::from_utf8_lossy(question.get(at + 1..at + 1 + usize::from(length))?).to_lowercase(),
        );
        at += 1 + usize::from(length);
    }
    let kind = question.get(at + 1..at + 3)?;
    let end = at + 5;
    let answer = known.get(&labels.join("."));
    let huge: Vec<Ipv4Addr>;
    let (code, addresses, ttl): (u8, &[Ipv4Addr], u32) = match answer {
        Some(Answer::Silence) => return None,
        Some(Answer::Cut) => {
            let mut reply = question[..2].to_vec();
            reply.extend([0x83, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
            reply.extend_from_slice(question.get(12..end)?);
            return Some(reply);
        }
        Some(Answer::Alias(name)) => {
            let mut reply = question[..2].to_vec();
            reply.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
            reply.extend_from_slice(question.get(12..end)?);
            let target: Vec<u8> =
                name.split('.').flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).chain([0]).collect();
            reply.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, target.len() as u8]);
            reply.extend(target);
            return Some(reply);
        }
        Some(Answer::Huge(count)) => {
            huge = (0..*count).map(|n| Ipv4Addr::from(0x7f02_0000 | u32::from(n))).collect();
            (0, &huge, 60)
        }
        Some(Answer::Failure) => (2, &[], 0),
        Some(Answer::Addresses(addresses, ttl)) if kind == [0, 1] => (0, addresses, *ttl),
        Some(Answer::Addresses(..)) => (0, &[], 0),
        None => (3, &[], 0),
    };
    let mut reply = question[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1]);
    reply.extend((addresses.len() as u16).to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend_from_slice(question.get(12..end)?);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(ttl.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
