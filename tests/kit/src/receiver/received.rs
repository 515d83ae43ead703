//! One request, and how it is read.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Instant;

const HEAD_LIMIT: u64 = 64 * 1024;

/// One request, as it came over the wire.
#[derive(Clone, Debug)]
pub struct Received {
    /// Such as `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Such as `HTTP/1.1`.
    pub version: String,
    /// Names and values in the order and spelling of the sender.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Vec<u8>,
    /// When the last byte of the body had been read.
    pub arrived: Instant,
    /// Which connection it came over: equal numbers mean keep-alive.
    pub connection: u64,
}

impl Received {
    /// Reads the next request of a connection that carries one at a time: see [`crate::Receiver::raw`].
    pub fn read(stream: &mut (impl Read + Write)) -> io::Result<Received> {
        let request = read_request(&mut BufReader::new(stream), &mut Vec::new(), 0)?;
        request.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The value of the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }
}

/// Reads one request; `None` when the sender has closed the connection between two.
pub(super) fn read_request<S: Read + Write>(
    stream: &mut BufReader<S>,
    line: &mut Vec<u8>,
    connection: u64,
) -> io::Result<Option<Received>> {
    if read_line(stream, line)? == 0 {
        return Ok(None);
    }
    let start = text(line)?;
    let mut words = start.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next())
    else {
        return Err(io::Error::other(format!("not a request line: {start:?}")));
    };
    let [method, target, version] = [method, target, version].map(str::to_owned);
    let mut headers = Vec::with_capacity(12);
    while read_line(stream, line)? > 0 && !line.is_empty() {
        if let Some((name, value)) = text(line)?.split_once(':') {
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    let mut request = Received {
        method,
        target,
        version,
        headers,
        body: Vec::new(),
        arrived: Instant::now(),
        connection,
    };
    if request.header("expect").is_some() {
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = read_body(stream, &request, line)?;
    request.arrived = Instant::now();
    Ok(Some(request))
}

fn read_body<S: Read>(
    stream: &mut BufReader<S>,
    request: &Received,
    line: &mut Vec<u8>,
) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding").is_some() {
        loop {
            read_line(stream, line)?;
            let size = usize::from_str_radix(text(line)?.trim(), 16).map_err(io::Error::other)?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            read_line(stream, line)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = request.header("content-length") {
        body.resize(length.parse().map_err(io::Error::other)?, 0);
        stream.read_exact(&mut body)?;
    }
    Ok(body)
}

/// Reads a line without its end; returns how many bytes there were with it.
fn read_line<S: Read>(stream: &mut BufReader<S>, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    let read = stream.take(HEAD_LIMIT).read_until(b'\n', line)?;
    while line
        .last()
        .is_some_and(|byte| matches!(byte, b'\r' | b'\n'))
    {
        line.pop();
    }
    Ok(read)
}

fn text(line: &[u8]) -> io::Result<&str> {
    std::str::from_utf8(line).map_err(io::Error::other)
}
