//! The messages of PostgreSQL's protocol, version 3, as far as the daemons' driver uses them.

use tokio_postgres::types::Type;

/// A message to the server.
#[derive(Debug)]
pub(super) enum Message {
    /// With the value of the parameter `options`.
    Startup(String),
    Parse {
        name: String,
        sql: String,
    },
    Describe(String),
    Bind {
        statement: String,
        values: Vec<Option<Vec<u8>>>,
    },
    Execute,
    Close(String),
    Sync,
    Query(String),
    Terminate,
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.to_vec()
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).expect("a text");
        let text = String::from_utf8(self.take(end)).expect("UTF-8");
        self.take(1);
        text
    }

    fn int2(&mut self) -> usize {
        let bytes = self.take(2).try_into().unwrap();
        usize::from(u16::from_be_bytes(bytes))
    }

    fn int4(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }
}

/// Takes the first message, if all of it is there. The first one of a connection has no tag.
pub(super) fn take(bytes: &mut Vec<u8>, is_first: bool) -> Option<Message> {
    let head = usize::from(!is_first);
    let length = bytes.get(head..head + 4)?;
    let length = u32::from_be_bytes(length.try_into().unwrap());
    let end = head + usize::try_from(length).unwrap();
    if bytes.len() < end {
        return None;
    }
    let rest = bytes.split_off(end);
    let message = std::mem::replace(bytes, rest);
    let fields = Fields(&message[head + 4..]);
    Some(if is_first {
        startup(fields)
    } else {
        read(message[0], fields)
    })
}

fn startup(mut fields: Fields<'_>) -> Message {
    fields.take(4);
    let mut options = String::new();
    loop {
        match fields.text().as_str() {
            "" => return Message::Startup(options),
            "options" => options = fields.text(),
            _ => drop(fields.text()),
        }
    }
}

fn read(tag: u8, mut fields: Fields<'_>) -> Message {
    match tag {
        b'P' => Message::Parse {
            name: fields.text(),
            sql: fields.text(),
        },
        b'D' => {
            fields.take(1);
            Message::Describe(fields.text())
        }
        b'B' => {
            fields.text();
            let statement = fields.text();
            let formats = fields.int2();
            fields.take(formats * 2);
            let values = (0..fields.int2()).map(|_| {
                let length = usize::try_from(fields.int4()).ok()?;
                Some(fields.take(length))
            });
            let values = values.collect();
            Message::Bind { statement, values }
        }
        b'E' => Message::Execute,
        b'C' => {
            fields.take(1);
            Message::Close(fields.text())
        }
        b'S' => Message::Sync,
        b'Q' => Message::Query(fields.text()),
        b'X' => Message::Terminate,
        other => panic!("the driver sent a message {}", char::from(other)),
    }
}

/// Appends a message of the server.
pub(super) fn put(into: &mut Vec<u8>, tag: u8, body: &[u8]) {
    into.push(tag);
    let length = u32::try_from(body.len() + 4).unwrap();
    into.extend(length.to_be_bytes());
    into.extend(body);
}

/// The connection is open.
pub(super) fn put_welcome(into: &mut Vec<u8>) {
    put(into, b'R', &[0; 4]);
    put(into, b'K', &[0; 8]);
}

/// `state`: `I` outside a transaction, `T` in one, `E` in one that has failed.
pub(super) fn put_ready(into: &mut Vec<u8>, state: u8) {
    put(into, b'Z', &[state]);
}

pub(super) fn put_complete(into: &mut Vec<u8>, tag: &str) {
    put(into, b'C', format!("{tag}\0").as_bytes());
}

pub(super) fn put_error(into: &mut Vec<u8>, code: &str, message: &str) {
    let body = format!("SERROR\0VERROR\0C{code}\0M{message}\0\0");
    put(into, b'E', body.as_bytes());
}

/// The types of a statement's parameters and columns.
pub(super) fn put_description(into: &mut Vec<u8>, takes: &[Type], gives: &[Type]) {
    let count = |of: &[Type]| u16::try_from(of.len()).unwrap().to_be_bytes();
    let mut body = count(takes).to_vec();
    for of in takes {
        body.extend(of.oid().to_be_bytes());
    }
    put(into, b't', &body);
    if gives.is_empty() {
        return put(into, b'n', &[]);
    }
    let mut body = count(gives).to_vec();
    for of in gives {
        // A name, no table, no column of it.
        body.extend(b"column\0\0\0\0\0\0\0");
        body.extend(of.oid().to_be_bytes());
        // A size and a modifier that say nothing; in binary.
        body.extend([0xFF; 6]);
        body.extend([0, 1]);
    }
    put(into, b'T', &body);
}

pub(super) fn put_row(into: &mut Vec<u8>, row: &[Option<Vec<u8>>]) {
    let mut body = u16::try_from(row.len()).unwrap().to_be_bytes().to_vec();
    for value in row {
        let length = value
            .as_ref()
            .map_or(-1, |v| i32::try_from(v.len()).unwrap());
        body.extend(length.to_be_bytes());
        body.extend(value.iter().flatten());
    }
    put(into, b'D', &body);
}
