//! A webhook receiver: a small HTTP/1.1 server that keeps every request as it came and answers each
//! path as the test says, or does with a connection whatever the test wants. Fast enough to stand
//! behind a benchmark.

mod listener;
mod received;
mod reply;

pub use listener::Receiver;
pub use received::Received;
pub use reply::Reply;
