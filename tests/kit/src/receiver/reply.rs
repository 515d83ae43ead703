//! One answer, and how it is sent.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

/// How a path answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status with a text body.
    Status(u16, String),
    /// A status with headers and a body.
    Full {
        /// The status code.
        status: u16,
        /// Headers beside `Content-Length`.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// A 302 to this location.
    Redirect(String),
    /// Never answers and keeps the connection open.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Writes these bytes and closes.
    RawBytes(Vec<u8>),
    /// Writes these bytes and resets the connection.
    Reset(Vec<u8>),
    /// Writes `head`, then `chunk` again and again, until the sender has had enough.
    Drip {
        /// What comes first, such as a status line and headers.
        head: Vec<u8>,
        /// What comes again and again.
        chunk: Vec<u8>,
        /// How long to wait between two chunks; zero floods.
        every: Duration,
    },
    /// Answers later.
    Delay(Duration, Box<Reply>),
}

impl Reply {
    /// A 200 without a body.
    pub fn ok() -> Reply {
        Reply::Status(200, String::new())
    }
}

/// Sends a reply; false when the connection is over.
pub(super) fn send<S: Read + Write>(
    stream: &mut S,
    reply: Reply,
    out: &mut Vec<u8>,
) -> io::Result<bool> {
    out.clear();
    match reply {
        Reply::Status(status, body) => write_response(out, status, &[], body.as_bytes())?,
        Reply::Full {
            status,
            headers,
            body,
        } => write_response(out, status, &headers, &body)?,
        Reply::Redirect(location) => {
            write_response(out, 302, &[("Location".to_owned(), location)], &[])?
        }
        Reply::Delay(delay, reply) => {
            thread::sleep(delay);
            return send(stream, *reply, out);
        }
        Reply::Close | Reply::Reset(_) => return Ok(false),
        Reply::RawBytes(bytes) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            return Ok(false);
        }
        Reply::Hang => {
            let mut ignored = [0; 1024];
            while stream.read(&mut ignored)? > 0 {}
            return Ok(false);
        }
        Reply::Drip { head, chunk, every } => {
            stream.write_all(&head)?;
            loop {
                stream.write_all(&chunk)?;
                stream.flush()?;
                thread::sleep(every);
            }
        }
    }
    stream.write_all(out)?;
    stream.flush()?;
    Ok(true)
}

fn write_response(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<()> {
    write!(out, "HTTP/1.1 {status} {}\r\n", reason(status))?;
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    // A 204 has no body and says so by having no length.
    if status != 204 {
        write!(out, "Content-Length: {}\r\n", body.len())?;
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    Ok(())
}

fn reason(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        300..=399 => "Elsewhere",
        400..=499 => "Refused",
        _ => "Failed",
    }
}
