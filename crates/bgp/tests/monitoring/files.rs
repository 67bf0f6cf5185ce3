//! The files of a speaker, read here and with `bgpdump`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tombolo_bgp::Config;
use tombolo_bgp::mrt::Options as Mrt;
use tombolo_bgp::speaker::{Monitoring, Options, Speaker};

use crate::read::{self, Mrt as Record};
use crate::{Place, origination, until};

fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut found: Vec<_> = names.filter(|path| name(path).starts_with(kind) && name(path).ends_with(".mrt")).collect();
    found.sort();
    found
}

/// The records of files, but of those that were removed since.
fn records(files: &[PathBuf]) -> Vec<Record> {
    let read = files.iter().filter_map(|file| match fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        read => Some(read.unwrap()),
    });
    read.flat_map(|file| read::mrt(&file)).map(|(_, record)| record).collect()
}

/// The prefixes of a table that ours announced.
fn prefixes(records: &[Record]) -> Vec<String> {
    let ribs = records.iter().filter_map(|record| match record {
        Record::Rib { prefix, .. } => Some(prefix.to_string()),
        _ => None,
    });
    let mut all: Vec<String> = ribs.collect();
    all.sort();
    all
}

/// What `bgpdump` makes of a file, a line a route.
fn bgpdump(file: &Path) -> String {
    let output = Command::new("bgpdump").arg("-m").arg(file).output();
    let output = output.unwrap_or_else(|error| panic!("bgpdump: {error}; `make deps` installs it"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn watch(config: Config, folder: &Path, keep: Option<usize>) -> Speaker {
    let every = Some(Duration::from_millis(500));
    let mrt = Mrt { folder: folder.to_owned(), tables: every, updates: every, keep };
    let monitoring = Monitoring { mrt: Some(mrt), bmp: Vec::new() };
    Speaker::start_monitored(config, Options::default(), monitoring, |_| {}).unwrap()
}

#[test]
fn tables_and_messages_are_files_that_others_read() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let mut config = place.watched();
    config.routes.extend([origination("10.7.0.0/16")]);
    let watched = watch(config, folder.path(), None);
    let neighbor = Speaker::start(place.neighbor(&["10.1.0.0/16", "fd01::/64"]), Options::default(), |_| {}).unwrap();

    let wanted = ["10.1.0.0/16", "10.7.0.0/16", "fd01::/64"];
    let table = until("a table with all routes", || {
        files(folder.path(), "rib.").into_iter().find(|file| prefixes(&records(std::slice::from_ref(file))) == wanted)
    });
    let read = records(std::slice::from_ref(&table));
    let Some(Record::Index { collector, peers, .. }) = read.first() else { panic!("{read:?}") };
    assert_eq!(collector.octets(), [10, 0, 0, 1]);
    assert_eq!(peers[1], ([10, 0, 0, 2].into(), place.neighbor, 4_200_000_001));
    let (text, from) = (bgpdump(&table), format!("|B|{}|4200000001|", place.neighbor));
    for (prefix, hop, peer) in [
        ("10.1.0.0/16", "10.9.9.9", &*from),
        ("fd01::/64", "fd09::9", &*from),
        ("10.7.0.0/16", "10.9.9.9", "|B|0.0.0.0|4200000001|"),
    ] {
        let wanted = format!("{peer}{prefix}||IGP|{hop}|170|30|");
        assert!(
            text.lines().any(|line| line.starts_with("TABLE_DUMP2|") && line.contains(&wanted)),
            "{wanted}: {text}"
        );
    }

    let messages = until("the messages", || {
        let found = records(&files(folder.path(), "updates."));
        let up = found.iter().any(|record| matches!(record, Record::State { to: 6, four: true, .. }));
        let messages = found.iter().filter(|record| matches!(record, Record::Message { .. })).count();
        (up && messages >= 4).then_some(found)
    });
    let announced = messages.iter().filter_map(|record| match record {
        Record::Message { session, message, add_path: false, four: true } => {
            assert_eq!((session.address, session.local_address), (place.neighbor, place.watched));
            Some(read::update(message, false).announced)
        }
        _ => None,
    });
    let mut announced: Vec<String> = announced.flatten().map(|(_, prefix)| prefix.to_string()).collect();
    announced.sort();
    assert_eq!(announced, ["10.1.0.0/16", "fd01::/64"]);
    let text: String = files(folder.path(), "updates.").iter().map(|file| bgpdump(file)).collect();
    let said = |wanted: &str| text.lines().any(|line| line.starts_with("BGP4MP|") && line.contains(wanted));
    assert!(said(&format!("|STATE|{}|4200000001|5|6", place.neighbor)), "{text}");
    assert!(said(&format!("|A|{}|4200000001|10.1.0.0/16||IGP|10.9.9.9|170|30|", place.neighbor)), "{text}");

    // What is there when it ends is whole.
    neighbor.shut_down("", false);
    until("the end of the session", || {
        let found = records(&files(folder.path(), "updates."));
        found.iter().any(|record| matches!(record, Record::State { from: 6, .. })).then_some(())
    });
    watched.shut_down("", false);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name.to_str().unwrap().ends_with(".mrt")), "{left:?}");
}

#[test]
fn paths_with_identifiers_are_read_by_others() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let (mut here, mut there) = (place.watched(), place.neighbor(&["10.1.0.0/16", "fd01::/64"]));
    here.neighbors.values_mut().for_each(|neighbor| neighbor.add_path.receive = true);
    there.neighbors.values_mut().for_each(|neighbor| neighbor.add_path.send = 2);
    let watched = watch(here, folder.path(), None);
    let neighbor = Speaker::start(there, Options::default(), |_| {}).unwrap();
    let table = until("a table with all routes", || {
        let whole = |file: &PathBuf| prefixes(&records(std::slice::from_ref(file))) == ["10.1.0.0/16", "fd01::/64"];
        files(folder.path(), "rib.").into_iter().find(whole)
    });
    let identified = |record: &Record| match record {
        Record::Rib { entries, .. } => entries.iter().all(|entry| entry.path_id.is_some_and(|id| id > 0)),
        _ => true,
    };
    assert!(records(std::slice::from_ref(&table)).iter().all(identified));
    let text = bgpdump(&table);
    assert!(text.contains("TABLE_DUMP2_AP|") && text.contains("|10.1.0.0/16|1||IGP|10.9.9.9|"), "{text}");
    let message = until("a message with identifiers", || {
        let is = |record: &Record| matches!(record, Record::Message { add_path: true, .. });
        records(&files(folder.path(), "updates.")).into_iter().find(is)
    });
    let Record::Message { message, .. } = message else { panic!("{message:?}") };
    assert!(read::update(&message, true).announced.iter().all(|(id, _)| id.is_some()));
    neighbor.shut_down("", false);
    watched.shut_down("", false);
}

#[test]
fn without_the_folder_nothing_stops_and_with_it_files_come() {
    let (place, parent) = (Place::new(), tempfile::tempdir().unwrap());
    let folder = parent.path().join("mrt");
    let watched = watch(place.watched(), &folder, None);
    let neighbor = Speaker::start(place.neighbor(&["10.1.0.0/16"]), Options::default(), |_| {}).unwrap();
    until("the route", || {
        let (sender, receiver) = std::sync::mpsc::channel();
        watched.routes(move |routes| sender.send(routes.len()).unwrap());
        (receiver.recv().unwrap() == 1).then_some(())
    });
    fs::create_dir(&folder).unwrap();
    until("a table", || (!files(&folder, "rib.").is_empty()).then_some(()));
    let mut metric = 0;
    until("a message", || {
        // What comes before the folder is tried again is not written.
        metric += 1;
        let mut config = place.neighbor(&["10.1.0.0/16"]);
        config.routes.values_mut().for_each(|route| route.med = Some(metric));
        neighbor.configure(config, |done| done.unwrap());
        (!files(&folder, "updates.").is_empty()).then_some(())
    });
    neighbor.shut_down("", false);
    watched.shut_down("", false);
}

#[test]
fn old_files_go_and_what_a_killed_process_left_is_looked_after() {
    let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    let record = [&[0, 0, 0, 1, 0, 16, 0, 5, 0, 0, 0, 24][..], &[0; 24]].concat();
    let state = [&record[..12 + 8], &[0, 0, 0, 1], &record[24..]].concat();
    // A record, and the half of another.
    fs::write(at(".updates.20200101.000000.mrt.part"), [&state[..], &state[..20]].concat()).unwrap();
    fs::write(at(".updates.20200102.000000.mrt.part"), &state[..20]).unwrap();
    fs::write(at(".rib.20200101.000000.mrt.part"), &state).unwrap();
    for day in 1..5 {
        fs::write(at(&format!("rib.2020010{day}.000000.mrt")), "").unwrap();
    }
    fs::write(at("notes"), "stay").unwrap();
    let watched = watch(place.watched(), folder.path(), Some(2));
    until("the last two tables", || {
        let tables = files(folder.path(), "rib.");
        (tables.len() <= 2 && !tables.iter().any(|file| file.to_str().unwrap().contains(".2020"))).then_some(())
    });
    assert_eq!(fs::read(at("updates.20200101.000000.mrt")).unwrap(), state);
    watched.shut_down("", false);
    let mut left: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.retain(|name| !name.starts_with("rib."));
    left.sort();
    assert_eq!(left, ["notes", "updates.20200101.000000.mrt"]);
}

/// On a file system of a few pages that only this test's threads see.
#[test]
fn a_full_disk_stops_nothing_and_files_come_again_when_there_is_room() {
    let on_a_small_disk = || {
        let (place, folder) = (Place::new(), tempfile::tempdir().unwrap());
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace of its own; are you root?");
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
        let watched = watch(place.watched(), folder.path(), Some(2));
        let nets: Vec<String> = (0..400).map(|n| format!("10.{}.{}.0/24", 100 + n / 250, n % 250)).collect();
        let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
        let mut metric = 0;
        let neighbor = Speaker::start(place.neighbor(&nets), Options::default(), |_| {}).unwrap();
        let mut announce = || {
            metric += 1;
            let mut config = place.neighbor(&nets);
            config.routes.values_mut().for_each(|route| route.med = Some(metric));
            neighbor.configure(config, |done| done.unwrap());
        };
        let metric_here = || {
            let (sender, receiver) = std::sync::mpsc::channel();
            watched.routes(move |routes| sender.send(routes.first().and_then(|r| r.med).unwrap_or(0)).unwrap());
            receiver.recv().unwrap()
        };
        let newest = |kind: &str| files(folder.path(), kind).pop();
        until("a table and messages", || {
            announce();
            newest("rib.").and(newest("updates.")).map(drop)
        });
        // From here on there is no room, but for what goes when a file is given up.
        let ballast = folder.path().join("ballast");
        let mut filling = fs::File::create(&ballast).unwrap();
        let mut fill = || while filling.write_all(&[0; 4096]).is_ok() {};
        fill();
        let before = metric_here();
        until("news with a full disk", || {
            fill();
            announce();
            (metric_here() > before + 100).then_some(())
        });
        // What there is, is whole.
        records(&files(folder.path(), ""));
        let old = [newest("rib."), newest("updates.")];
        fs::remove_file(&ballast).unwrap();
        drop(filling);
        until("another table and other messages", || {
            announce();
            let table = newest("rib.").filter(|table| old[0].as_ref() < Some(table))?;
            newest("updates.").filter(|messages| old[1].as_ref() < Some(messages))?;
            (prefixes(&records(&[table])).len() == 400).then_some(())
        });
        neighbor.shut_down("", false);
        watched.shut_down("", false);
        nix::mount::umount(folder.path()).unwrap();
    };
    std::thread::spawn(on_a_small_disk).join().unwrap();
}
