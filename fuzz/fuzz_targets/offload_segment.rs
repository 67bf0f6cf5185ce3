//! A packet as a TUN gives it, ten bytes of virtio header before it: cut, and put together again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_offload::{GSO_NONE, Segmenter, VirtioHeader, ip_len};

fuzz_target!(|bytes: &[u8]| {
    let Some(header) = VirtioHeader::read(bytes) else { return };
    let packet = &bytes[VirtioHeader::LEN..];
    let segmenter = match Segmenter::new(header, packet) {
        Ok(segmenter) => segmenter,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let count = segmenter.count();
    let segments: Vec<Vec<u8>> = (0..count)
        .map(|i| {
            let mut out = vec![0; segmenter.segment_len(i)];
            segmenter.write(i, &mut out);
            out
        })
        .collect();
    if header.gso_type == GSO_NONE {
        assert!(count == 1 && segments[0].len() == packet.len());
        return;
    }
    for segment in &segments {
        // A hop-by-hop header behind a length of nothing would be a jumbogram: no such segment is that short.
        assert_eq!(ip_len(segment), Some(segment.len()));
    }
    if count > 1 {
        let written: usize = segments.iter().map(Vec::len).sum();
        let headers = (written - packet.len()) / (count - 1);
        let payload: Vec<u8> = segments.iter().flat_map(|s| &s[headers..]).copied().collect();
        assert_eq!(payload, packet[headers..]);
        let (last, all) = segments.split_last().expect("there are several");
        assert!(all.iter().all(|s| s.len() - headers == usize::from(header.gso_size)));
        assert!((1..=usize::from(header.gso_size)).contains(&(last.len() - headers)));
    }
});
