//! A client that decides when which byte is sent, and reads answers as they come.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::within;

pub(super) fn get_of(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes()
}

pub(super) fn post_of(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(super) struct Client {
    writes: OwnedWriteHalf,
    reads: Reader,
}

impl Client {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an open connection");
        let (reads, writes) = stream.into_split();
        Self { writes, reads: Reader { half: reads, read: Vec::new(), pause: Duration::ZERO } }
    }

    /// The two directions on their own; the reading one pauses before each read.
    pub(super) fn split(mut self, pause: Duration) -> (OwnedWriteHalf, Reader) {
        self.reads.pause = pause;
        (self.writes, self.reads)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.expect("an open connection");
    }

    pub(super) async fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("a write", self.writes.write_all(bytes)).await
    }

    pub(super) async fn head(&mut self) -> String {
        within("a head", self.reads.head()).await.expect("a head")
    }

    /// The body of the next answer, which must be a 200.
    pub(super) async fn body(&mut self) -> Vec<u8> {
        within("an answer", self.reads.body()).await.expect("an answer 200")
    }

    pub(super) async fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        within("bytes", self.reads.exactly(bytes)).await.expect("as many bytes")
    }

    /// Everything up to the end of the connection.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        within("the end", async { while self.reads.more().await.is_ok() {} }).await;
        std::mem::take(&mut self.reads.read)
    }
}

/// What is read from a connection, and why it could not be.
pub(super) struct Reader {
    half: OwnedReadHalf,
    read: Vec<u8>,
    pause: Duration,
}

impl Reader {
    async fn more(&mut self) -> Result<(), String> {
        if !self.pause.is_zero() {
            tokio::time::sleep(self.pause).await;
        }
        match self.half.read_buf(&mut self.read).await {
            Ok(0) => Err("the connection has ended".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn exactly(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        while self.read.len() < bytes {
            self.read.reserve(bytes - self.read.len());
            self.more().await?;
        }
        Ok(self.read.drain(..bytes).collect())
    }

    async fn up_to(&mut self, end: &[u8]) -> Result<Vec<u8>, String> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return self.exactly(at + end.len()).await;
            }
            self.more().await?;
        }
    }

    async fn head(&mut self) -> Result<String, String> {
        let head = self.up_to(b"\r\n\r\n").await?;
        Ok(String::from_utf8(head)
            .map_err(|error| error.to_string())?
            .to_ascii_lowercase()
            .replace("http/", "HTTP/"))
    }

    /// The body of the next answer, which must be a 200.
    pub(super) async fn body(&mut self) -> Result<Vec<u8>, String> {
        let head = self.head().await?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if let Some(length) = length {
            return self.exactly(length.parse().map_err(|_| head.clone())?).await;
        }
        let mut body = Vec::new();
        loop {
            let line = self.up_to(b"\r\n").await?;
            let digits = String::from_utf8_lossy(&line);
            let length =
                usize::from_str_radix(digits.trim_end(), 16).map_err(|_| format!("{head}{digits}"))?;
            body.extend(self.exactly(length).await?);
            self.exactly(2).await?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}
