//! A classic BPF program that lets datagrams of known sources through (Linux, networking/filter).

use std::collections::BTreeSet;
use std::net::IpAddr;

use socket2::SockFilter;

/// The longest program that the kernel takes, `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// Where the source address is, counted from the network header (`SKF_NET_OFF`).
const NETWORK_HEADER: u32 = -0x10_0000_i32 as u32;
const IPV4_SOURCE: u32 = NETWORK_HEADER.wrapping_add(12);
const IPV6_SOURCE: u32 = NETWORK_HEADER.wrapping_add(8);

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The program for sources that are all of one family; `None` when they are too many for one.
pub(super) fn program(sources: &BTreeSet<IpAddr>) -> Option<Vec<SockFilter>> {
    let load = |at| SockFilter::new(LOAD_WORD, 0, 0, at);
    let unless_equal = |word, skipped| SockFilter::new(JUMP_IF_EQUAL, 0, skipped, word);
    let finish = |length| SockFilter::new(RETURN, 0, 0, length);
    let mut program = Vec::new();
    for source in sources {
        match source {
            IpAddr::V4(source) => {
                if program.is_empty() {
                    program.push(load(IPV4_SOURCE));
                }
                program.push(unless_equal(source.to_bits(), 1));
            }
            IpAddr::V6(source) => {
                let bits = source.to_bits();
                for word in 0..4u8 {
                    program.push(load(IPV6_SOURCE.wrapping_add(u32::from(word) * 4)));
                    // To the next source: past the other words, two instructions each, and the return.
                    program.push(unless_equal((bits >> (96 - 32 * word)) as u32, (3 - word) * 2 + 1));
                }
            }
        }
        program.push(finish(u32::MAX));
    }
    program.push(finish(0));
    (program.len() <= LONGEST).then_some(program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;

    use socket2::SockRef;

    use super::*;

    /// Whether the kernel lets a datagram from the loopback address through.
    fn passes(own: &str, sources: &[&str]) -> bool {
        let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        let [receiver, sender] = [(); 2].map(|()| UdpSocket::bind((own, 0)).unwrap());
        SockRef::from(&receiver).attach_filter(&program(&sources).unwrap()).unwrap();
        sender.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
        // Over loopback it is there, or dropped, when the call returns.
        receiver.set_nonblocking(true).unwrap();
        receiver.recv(&mut [0; 8]).is_ok()
    }

    #[test]
    fn the_kernel_passes_the_named_sources_only() {
        for (own, near) in [("127.0.0.1", "127.0.0.2"), ("::1", "::2")] {
            let far = if own == "::1" { ["1::1", "0:1::1", "::1:0:0:1"] } else { ["1.0.0.1", "10.0.0.1", "9.9.9.9"] };
            assert!(passes(own, &[own]));
            assert!(passes(own, &[far[0], near, own, far[1], far[2]]));
            assert!(!passes(own, &[near]));
            assert!(!passes(own, &[far[0], far[1], far[2], near]));
            assert!(!passes(own, &[]));
        }
    }

    #[test]
    fn more_sources_than_a_program_holds_are_left_to_the_reader() {
        let sources = |count| (0..count).map(|n| IpAddr::V4(n.into())).collect();
        assert!(program(&sources(2047)).is_some());
        assert!(program(&sources(2048)).is_none());
    }
}
