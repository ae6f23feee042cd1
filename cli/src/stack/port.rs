//! Free TCP ports on the loopback address.

use std::io::{Read, Result};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

/// A port of 127.0.0.1 that nobody listens on, chosen by the kernel and kept from others for about a minute.
///
/// A port that was merely bound and let go may be handed to the next caller before our child has bound it. So one
/// connection is made through it and closed from the listening side: while that rests in TIME_WAIT the kernel gives
/// the port to no one who asks for any port, yet a server that asks for exactly this one (with SO_REUSEADDR, as all
/// do here) gets it.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let mut client = TcpStream::connect(address)?;
    let (accepted, _) = listener.accept()?;
    drop(accepted);
    client.read_exact(&mut [0u8; 1]).err();
    Ok(address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_free_port_is_given_once_and_can_be_bound() {
        let ports: Vec<u16> = (0..200).map(|_| free_port().expect("loopback has free ports")).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len(), "no port is given twice");
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port can be bound by its number");
        }
    }
}
