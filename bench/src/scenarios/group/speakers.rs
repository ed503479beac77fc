//! What NATS and MQTT say on a connection, as far as a fan-out needs it: one subject, on which a member hears all others. No socket here.
//!
//! Sources: the NATS client protocol (docs.nats.io, "Client Protocol"); MQTT 5.0 (OASIS), sections 2 and 3.

use prost::encoding::encode_varint;
use tern_wire::tls::{TlsClient, TlsError};

use crate::load::{Said, Secured, Speaker};

/// More than this in one piece is no answer to what is asked here.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// What is heard from a server that fans out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Somebody else's message.
    Message(Vec<u8>),
    /// The server has the oldest of the own ones that it had not said this of.
    Acknowledged,
}

/// A member's connection.
pub enum Member {
    Nats(Nats),
    Mqtt(Mqtt),
}

impl Member {
    /// Says something to all others of its subject.
    pub fn publish(&mut self, body: &[u8]) {
        match self {
            Self::Nats(nats) => nats.publish(body),
            Self::Mqtt(mqtt) => mqtt.publish(body),
        }
    }
}

impl Speaker for Member {
    type Frame = Heard;

    fn take_outgoing(&mut self) -> Result<Vec<u8>, TlsError> {
        match self {
            Self::Nats(Nats { tls: None, .. }) => Ok(Vec::new()),
            Self::Nats(Nats { tls: Some(tls), .. }) | Self::Mqtt(Mqtt { tls, .. }) => tls.take_outgoing(),
        }
    }

    fn receive(&mut self, bytes: &mut [u8], say: &mut dyn FnMut(Said<Heard>)) -> Result<(), String> {
        match self {
            Self::Nats(nats) => nats.receive(bytes, say),
            Self::Mqtt(mqtt) => mqtt.receive(bytes, say),
        }
    }
}

/// A connection that speaks NATS. The server begins, without TLS.
pub struct Nats {
    client: TlsClient,
    tls: Option<Secured>,
    incoming: Vec<u8>,
    subject: String,
}

impl Nats {
    pub fn new(client: &TlsClient, subject: String) -> Self {
        Self { client: client.clone(), tls: None, incoming: Vec::new(), subject }
    }

    fn say(&mut self, text: &str) {
        self.tls.as_mut().expect("nothing is said before").plain.extend_from_slice(text.as_bytes());
    }

    fn publish(&mut self, body: &[u8]) {
        self.say(&format!("PUB {} {}\r\n", self.subject, body.len()));
        self.tls.as_mut().expect("nothing is said before").plain.extend_from_slice(body);
        self.say("\r\n");
    }

    fn receive(&mut self, bytes: &mut [u8], say: &mut dyn FnMut(Said<Heard>)) -> Result<(), String> {
        let text = |error: TlsError| error.to_string();
        let Some(tls) = &mut self.tls else {
            self.incoming.extend_from_slice(bytes);
            return match line(&self.incoming)? {
                Some(line) if line.starts_with(b"INFO ") => {
                    self.tls = Some(Secured::new(&self.client).map_err(text)?);
                    self.incoming.clear();
                    Ok(())
                }
                Some(_) => Err("this is no NATS server".to_owned()),
                None => Ok(()),
            };
        };
        let incoming = &mut self.incoming;
        if tls.receive(bytes, &mut |piece| incoming.extend_from_slice(piece)).map_err(text)? {
            let options = r#"{"verbose":false,"pedantic":false,"tls_required":true,"echo":false,"lang":"rust","protocol":1}"#;
            self.say(&format!("CONNECT {options}\r\nSUB {} 1\r\nPING\r\n", self.subject));
        }
        let mut taken = 0;
        while let Some((length, what)) = nats_operation(&self.incoming[taken..])? {
            taken += length;
            match what {
                NatsOperation::Message(body) => say(Said::Frame(Heard::Message(body))),
                NatsOperation::Ping => self.say("PONG\r\n"),
                NatsOperation::Pong => say(Said::Ready),
                NatsOperation::Other => {}
            }
        }
        self.incoming.drain(..taken);
        Ok(())
    }
}

enum NatsOperation {
    Message(Vec<u8>),
    Ping,
    Pong,
    Other,
}

/// A line without its end; `None`: it has not come whole.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    match bytes.windows(2).position(|pair| pair == b"\r\n") {
        Some(length) => Ok(Some(&bytes[..length])),
        None if bytes.len() > PIECE_BYTES_MAX => Err("a line without an end".to_owned()),
        None => Ok(None),
    }
}

/// What a server says first, and how long it is; `None`: it has not come whole.
fn nats_operation(bytes: &[u8]) -> Result<Option<(usize, NatsOperation)>, String> {
    let Some(line) = line(bytes)? else { return Ok(None) };
    let after = line.len() + 2;
    let mut words = line.split(|byte| *byte == b' ');
    match words.next() {
        Some(b"MSG") => {
            let length =
                words.next_back().and_then(|word| std::str::from_utf8(word).ok()?.parse::<usize>().ok());
            let length = length.filter(|length| *length <= PIECE_BYTES_MAX);
            let length = length.ok_or("a message without a length")?;
            let Some(body) = bytes.get(after..after + length + 2) else { return Ok(None) };
            Ok(Some((after + length + 2, NatsOperation::Message(body[..length].to_vec()))))
        }
        Some(b"PING") => Ok(Some((after, NatsOperation::Ping))),
        Some(b"PONG") => Ok(Some((after, NatsOperation::Pong))),
        Some(b"-ERR") => Err(String::from_utf8_lossy(line).into_owned()),
        _ => Ok(Some((after, NatsOperation::Other))),
    }
}

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH_QOS_1: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const DISCONNECT: u8 = 0xe0;

/// From here on a reason code says that something has failed.
const FAILURE: u8 = 0x80;

/// A connection that speaks MQTT 5, each message at least once (QoS 1).
pub struct Mqtt {
    tls: Secured,
    incoming: Vec<u8>,
    topic: String,
    client_id: String,
    packet_id: u16,
}

impl Mqtt {
    pub fn new(client: &TlsClient, topic: String, client_id: String) -> Result<Self, TlsError> {
        Ok(Self { tls: Secured::new(client)?, incoming: Vec::new(), topic, client_id, packet_id: 0 })
    }

    fn publish(&mut self, body: &[u8]) {
        // 0 is none.
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let parts = [&text(&self.topic)[..], &self.packet_id.to_be_bytes(), &[0], body];
        packet(PUBLISH_QOS_1, &parts, &mut self.tls.plain);
    }

    fn receive(&mut self, bytes: &mut [u8], say: &mut dyn FnMut(Said<Heard>)) -> Result<(), String> {
        let incoming = &mut self.incoming;
        let received = self.tls.receive(bytes, &mut |piece| incoming.extend_from_slice(piece));
        if received.map_err(|error| error.to_string())? {
            // Version 5, a clean start, no keep-alive, no properties.
            let parts = [&text("MQTT")[..], &[5, 0x02, 0, 0, 0], &text(&self.client_id)];
            packet(CONNECT, &parts, &mut self.tls.plain);
        }
        let mut taken = 0;
        while let Some((length, kind, body)) = mqtt_packet(&self.incoming[taken..])? {
            taken += length;
            match kind & 0xf0 {
                CONNACK => {
                    let [_, 0, ..] = body else { return Err(format!("CONNECT is refused: {body:?}")) };
                    // QoS 1, and nothing of one's own.
                    let parts = [&[0, 1, 0], &text(&self.topic)[..], &[0x01 | 0x04]];
                    packet(SUBSCRIBE, &parts, &mut self.tls.plain);
                }
                SUBACK if body.last().is_some_and(|reason| *reason < FAILURE) => say(Said::Ready),
                0x30 => {
                    let (id, body) = published(kind, body).ok_or("a message that is none")?;
                    if let Some(id) = id {
                        packet(PUBACK, &[&id], &mut self.tls.plain);
                    }
                    say(Said::Frame(Heard::Message(body.to_vec())));
                }
                PUBACK if body.get(2).is_none_or(|reason| *reason < FAILURE) => {
                    say(Said::Frame(Heard::Acknowledged));
                }
                SUBACK | PUBACK | DISCONNECT => return Err(format!("packet {kind:#x} says {body:?}")),
                _ => {}
            }
        }
        self.incoming.drain(..taken);
        Ok(())
    }
}

/// A string with its length before it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn packet(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.push(kind);
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // A variable byte integer is a varint.
    encode_varint(length as u64, out);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// A number of one to four bytes, seven bits each, and how many; `None`: it has not come whole, or is longer.
fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let length = bytes.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let number = bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
    Some((number, length))
}

/// How long a packet is, its kind with its flags, and what is in it.
type MqttPacket<'a> = (usize, u8, &'a [u8]);

/// The first packet; `None`: it has not come whole.
fn mqtt_packet(bytes: &[u8]) -> Result<Option<MqttPacket<'_>>, String> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, of_length)) = variable(rest) else {
        return if rest.len() < 4 { Ok(None) } else { Err("a packet without a length".to_owned()) };
    };
    if length > PIECE_BYTES_MAX {
        return Err(format!("a packet of {length} bytes"));
    }
    let body = rest.get(of_length..of_length + length);
    Ok(body.map(|body| (1 + of_length + length, *kind, body)))
}

/// A message's packet id, if it has one, and what it says.
fn published(kind: u8, body: &[u8]) -> Option<(Option<[u8; 2]>, &[u8])> {
    let (topic_bytes, rest) = body.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*topic_bytes))..)?;
    let (id, rest) = if kind & 0x06 == 0 {
        (None, rest)
    } else {
        let (id, rest) = rest.split_first_chunk()?;
        (Some(*id), rest)
    };
    let (properties, of_length) = variable(rest)?;
    Some((id, rest.get(of_length + properties..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nats_message_is_taken_when_it_is_whole() {
        let bytes = b"MSG g0 1 5\r\nhe\r\no\r\nPING\r\n";
        for length in 0..b"MSG g0 1 5\r\nhe\r\no\r\n".len() {
            assert!(matches!(nats_operation(&bytes[..length]), Ok(None)), "{length} bytes");
        }
        let (length, what) = nats_operation(bytes).expect("good").expect("whole");
        assert!(matches!(what, NatsOperation::Message(body) if body == b"he\r\no"));
        assert!(matches!(nats_operation(&bytes[length..]), Ok(Some((6, NatsOperation::Ping)))));
        assert!(nats_operation(b"-ERR 'no'\r\n").is_err() && nats_operation(b"MSG g0 1 x\r\n").is_err());
    }

    #[test]
    fn an_mqtt_message_is_taken_when_it_is_whole() {
        let mut bytes = Vec::new();
        let body = [7; 300];
        packet(PUBLISH_QOS_1, &[&text("g0"), &[1, 2], &[0], &body], &mut bytes);
        for length in 0..bytes.len() {
            assert!(matches!(mqtt_packet(&bytes[..length]), Ok(None)), "{length} bytes");
        }
        let (length, kind, packet) = mqtt_packet(&bytes).expect("good").expect("whole");
        assert_eq!((length, kind), (bytes.len(), PUBLISH_QOS_1));
        assert_eq!(published(kind, packet), Some((Some([1, 2]), &body[..])));
        for length in 0..5 {
            assert_eq!(published(kind, &packet[..length]), None);
        }
        assert!(mqtt_packet(&[0x30, 0xff, 0xff, 0xff, 0xff]).is_err());
    }
}
