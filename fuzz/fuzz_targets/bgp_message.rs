//! BGP messages of all types: what is read is written again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tombolo_bgp::prefix::{self, V4, V6};
use tombolo_bgp::update::attributes::{Context, Reader};
use tombolo_bgp::update::{Update, as_path};
use tombolo_bgp::wire::{self, Kind, Notification, Open, RouteRefresh};

fuzz_target!(|input: &[u8]| {
    let Some((&bits, bytes)) = input.split_first() else { return };
    let mut rest = bytes;
    while let Ok(Some(message)) = wire::next(rest, bits & 1 != 0) {
        read(message.kind, message.body, bits);
        rest = &rest[message.len..];
    }
    // And without the need to find a header.
    read(Kind::ALL[usize::from(bits >> 3) % Kind::ALL.len()], bytes, bits);
});

fn read(kind: Kind, body: &[u8], bits: u8) {
    match kind {
        Kind::Open => {
            if let Ok(open) = Open::parse(body) {
                let written = open.to_bytes();
                let message = wire::next(&written, false).expect("a header").expect("a whole message");
                let again = Open::parse(message.body).expect("an OPEN");
                // Capabilities that are too many for a message are left off.
                assert!(open.capabilities.starts_with(&again.capabilities) || written.len() > 3800);
                assert_eq!((again.asn, again.hold_time, again.router_id), (open.asn, open.hold_time, open.router_id));
                open.capabilities.iter().for_each(|capability| drop(capability.to_string()));
            }
        }
        Kind::Update => update(body, bits),
        Kind::Notification => {
            if let Ok(notification) = Notification::parse(body) {
                drop((notification.names(), notification.words(), notification.sent().to_string()));
                let mut written = Vec::new();
                notification.encode(&mut written);
                assert_eq!(Notification::parse(&written[wire::HEADER..]), Ok(notification));
            }
        }
        Kind::Keepalive => {}
        Kind::RouteRefresh => {
            if let Ok(Some(refresh)) = RouteRefresh::parse(body) {
                let mut written = Vec::new();
                refresh.encode(&mut written);
                assert_eq!(RouteRefresh::parse(&written[wire::HEADER..]).ok().flatten(), Some(refresh));
            }
        }
    }
}

fn update(body: &[u8], bits: u8) {
    let Ok(update) = Update::split(body) else { return };
    let context = Context {
        four_octet: bits & 2 == 0,
        external: bits & 4 != 0,
        first_as: (bits & 0xc0 == 0xc0).then_some(u32::from(bits)),
    };
    let mut reader = Reader::default();
    let Ok(found) = reader.read(update.attributes, !update.nlri.is_empty(), context) else { return };
    for field in [update.withdrawn, update.nlri] {
        prefixes(field);
    }
    found.unreach.iter().chain(found.reach.iter().map(|(mp, _)| mp)).for_each(|mp| prefixes(mp.nlri));
    if found.flaw.is_some() || reader.canonical.is_empty() {
        return;
    }
    // The one form is its own one form.
    let canonical = reader.canonical.clone();
    let path = tombolo_bgp::update::attributes::attribute(&canonical, 2).unwrap_or_default();
    assert!(as_path::valid(path, 4));
    let context = Context { four_octet: true, external: false, first_as: None };
    let _ = reader.read(&canonical, false, context);
}

fn prefixes(field: &[u8]) {
    for add_path in [false, true] {
        if let Ok(count) = prefix::check::<V4>(field, add_path) {
            assert_eq!(prefix::read::<V4>(field, add_path).count(), count);
        }
        if let Ok(count) = prefix::check::<V6>(field, add_path) {
            assert_eq!(prefix::read::<V6>(field, add_path).count(), count);
        }
    }
}
