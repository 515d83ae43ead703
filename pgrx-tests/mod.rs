//! Tests that run inside the server, one module a topic.
