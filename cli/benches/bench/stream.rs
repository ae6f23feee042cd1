//! Payments over a WebSocket connection (RFC 6455), as bytes: so many messages are sent in one go, and the bytes of their
//! answers follow from what was sent, as nothing else comes on a connection that is never idle.

use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// Asks for a WebSocket connection. The key is the example of the RFC: nobody here could take one for another.
pub(crate) const UPGRADE: &str = "GET /v1/payments/stream HTTP/1.1\r\nhost: bench\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What clients must mask their messages with: anything.
const MASK: [u8; 4] = [0x4d, 0x69, 0x6c, 0x6c];

/// Text messages, one a value, as a client sends them.
pub(crate) fn sent<T: serde::Serialize>(values: &[T]) -> Vec<u8> {
    frames(values, Some(MASK))
}

/// Text messages, one a value, as a server sends them.
pub(crate) fn received<T: serde::Serialize>(values: &[T]) -> Vec<u8> {
    frames(values, None)
}

fn frames<T: serde::Serialize>(values: &[T], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        let json =
            serde_json::to_vec(value).expect("bodies of the wire have no maps with keys that are no texts");
        let mut frame = Frame::message(json, OpCode::Data(Data::Text), true);
        frame.header_mut().mask = mask;
        frame.format(&mut bytes).expect("a Vec takes every byte");
    }
    bytes
}
