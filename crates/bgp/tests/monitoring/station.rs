//! A station on a socket of the test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ipnet::IpNet;
use tombolo_bgp::Config;
use tombolo_bgp::bmp::Station;
use tombolo_bgp::speaker::{Monitoring, Options, Speaker};

use crate::read::{self, Bmp, Update};
use crate::{PATIENCE, Place};

struct Told {
    stream: BufReader<TcpStream>,
    /// What the station has of the neighbour.
    routes: BTreeMap<IpNet, Update>,
    ends: usize,
}

impl Told {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut told = Self { stream: BufReader::new(stream), routes: BTreeMap::new(), ends: 0 };
        let hello = Bmp::Initiation(vec![(1, "a test".to_owned()), (2, "watched".to_owned())]);
        assert_eq!(told.next(), hello);
        told
    }

    fn next(&mut self) -> Bmp {
        let message = read::bmp(&mut self.stream).unwrap();
        if let Bmp::Routes(_, message) = &message {
            let update = read::update(message, false);
            self.ends += usize::from(update.announced.is_empty() && update.withdrawn.is_empty());
            update.withdrawn.iter().for_each(|(_, prefix)| drop(self.routes.remove(prefix)));
            self.routes.extend(update.announced.iter().map(|(_, prefix)| (*prefix, update.clone())));
        }
        message
    }

    /// Reads until that is so; returns the message that made it so.
    fn until(&mut self, mut so: impl FnMut(&Self, &Bmp) -> bool) -> Bmp {
        loop {
            let message = self.next();
            if so(self, &message) {
                return message;
            }
        }
    }

    fn prefixes(&self) -> BTreeSet<String> {
        self.routes.keys().map(ToString::to_string).collect()
    }
}

fn set<const N: usize>(all: [&str; N]) -> BTreeSet<String> {
    all.map(str::to_owned).into()
}

#[test]
fn a_station_is_told_the_table_and_what_becomes_of_it() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let station = Station {
        address: listener.local_addr().unwrap().to_string(),
        statistics: Some(Duration::from_millis(200)),
        name: "watched".to_owned(),
        description: "a test".to_owned(),
    };
    let monitoring = Monitoring { mrt: None, bmp: vec![station] };
    let watched = Speaker::start_monitored(place.watched(), Options::default(), monitoring, |_| {}).unwrap();
    let mut told = Told::accept(&listener);
    let with = |routes: &[&str]| -> Config { place.neighbor(routes) };
    let neighbor = Speaker::start(with(&["10.1.0.0/16", "fd01::/64"]), Options::default(), |_| {}).unwrap();

    let up = told.until(|_, message| matches!(message, Bmp::Up { .. }));
    let Bmp::Up { peer, local, ports, opens } = up else { panic!("{up:?}") };
    assert_eq!((peer.address, peer.asn, peer.two_octets), (place.neighbor, 4_200_000_001, false));
    assert_eq!(peer.router_id.octets(), [10, 0, 0, 2]);
    assert_eq!((local, ports.0), (place.watched, place.port));
    assert_ne!(ports.1, 0);
    assert_eq!(opens.each_ref().map(|open| (open[18], open[27])), [(1, 1), (1, 2)]);

    told.until(|told, _| told.prefixes() == set(["10.1.0.0/16", "fd01::/64"]) && told.ends >= 2);
    let update = &told.routes[&"10.1.0.0/16".parse::<IpNet>().unwrap()];
    assert_eq!((update.get(3), update.get(5)), (Some(&[10, 9, 9, 9][..]), Some(&[0, 0, 0, 170][..])));

    // What changes is told as it comes.
    neighbor.configure(with(&["10.1.0.0/16", "10.2.0.0/16"]), |done| done.unwrap());
    told.until(|told, _| told.prefixes() == set(["10.1.0.0/16", "10.2.0.0/16"]));
    let counted = |message: &Bmp| match message {
        Bmp::Statistics(_, all) => all.iter().any(|(kind, value)| *kind == 7 && value.ends_with(&[2])),
        _ => false,
    };
    told.until(|_, message| counted(message));

    // A station that comes anew gets the table, and then its ends.
    drop(told);
    let mut told = Told::accept(&listener);
    told.until(|told, _| told.ends == 1);
    assert_eq!(told.prefixes(), set(["10.1.0.0/16", "10.2.0.0/16"]));
    told.until(|told, _| told.ends == 2);

    neighbor.shut_down("bye", false);
    let down = told.until(|_, message| matches!(message, Bmp::Down(..)));
    let Bmp::Down(_, reason, notification) = down else { panic!("{down:?}") };
    assert_eq!((reason, notification[18], notification[19], notification[20]), (3, 3, 6, 2));
    assert!(notification.ends_with(b"bye"));
    watched.shut_down("the test is over", false);
    told.until(|_, message| *message == Bmp::Termination(vec![(1, vec![0, 0])]));
}

#[test]
fn a_session_that_is_reset_here_is_told_with_what_was_sent() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (name, description) = ("watched".to_owned(), "a test".to_owned());
    let monitoring = Monitoring { mrt: None, bmp: vec![Station { address, statistics: None, name, description }] };
    let watched = Speaker::start_monitored(place.watched(), Options::default(), monitoring, |_| {}).unwrap();
    let neighbor = Speaker::start(place.neighbor(&[]), Options::default(), |_| {}).unwrap();
    let mut told = Told::accept(&listener);
    told.until(|_, message| matches!(message, Bmp::Up { .. }));
    watched.reset(place.neighbor, |done| done.unwrap());
    let down = told.until(|_, message| matches!(message, Bmp::Down(..)));
    let Bmp::Down(_, reason, notification) = down else { panic!("{down:?}") };
    assert_eq!((reason, &notification[18..21]), (1, &[3, 6, 2][..]));
    assert!(notification.ends_with(b"reset by hand"));
    // It comes up again.
    told.until(|_, message| matches!(message, Bmp::Up { .. }));
    neighbor.shut_down("", false);
    watched.shut_down("", false);
}
