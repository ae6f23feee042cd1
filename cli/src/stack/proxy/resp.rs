//! Just enough of the Redis protocol to tell where one request ends.

/// Requests cut out of a stream of bytes.
#[derive(Debug, Default)]
pub(super) struct Requests {
    buffer: Vec<u8>,
}

impl Requests {
    /// Takes more bytes, and gives back the requests that are complete now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.buffer.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let Some(length) = request_len(&self.buffer) {
            let rest = self.buffer.split_off(length);
            complete.push(std::mem::replace(&mut self.buffer, rest));
        }
        complete
    }
}

/// Length of the request at the head of `bytes`; `None` while it is not complete. Bytes that are no request of Redis
/// are passed on as they are: the server will say what it thinks of them.
fn request_len(bytes: &[u8]) -> Option<usize> {
    let (head, mut at) = line(bytes, 0)?;
    let Some(count) = number(head, b'*') else { return Some(at) };
    for _ in 0..count {
        let (head, after) = line(bytes, at)?;
        let Some(length) = number(head, b'$') else { return Some(bytes.len()) };
        at = after.checked_add(length)?.checked_add(2)?;
        if bytes.len() < at {
            return None;
        }
    }
    Some(at)
}

/// The line that starts at `from`, and where the next one does.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let end = rest.iter().position(|&b| b == b'\n')?;
    Some((rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), from + end + 1))
}

fn number(line: &[u8], mark: u8) -> Option<usize> {
    std::str::from_utf8(line.strip_prefix(&[mark])?).ok()?.parse().ok()
}

/// A request of Redis from its parts.
pub(super) fn request(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
    for part in parts {
        bytes.extend(format!("${}\r\n", part.len()).into_bytes());
        bytes.extend_from_slice(part);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_cut_where_they_end_however_the_bytes_arrive() {
        let sent = [
            request(&[b"SET", b"a\r\n*1\r\n", b""]),
            b"PING\r\n".to_vec(),
            request(&[b"GET", b"a"]),
            b"*0\r\n".to_vec(),
        ];
        let stream = sent.concat();
        for size in 1..=stream.len() {
            let mut requests = Requests::default();
            let got: Vec<_> = stream.chunks(size).flat_map(|chunk| requests.push(chunk)).collect();
            assert_eq!(got, sent, "in chunks of {size}");
        }
    }

    #[test]
    fn bytes_of_another_protocol_are_not_held_back() {
        let mut requests = Requests::default();
        assert_eq!(requests.push(b"*1\r\n:5\r\n").concat(), b"*1\r\n:5\r\n");
    }
}
