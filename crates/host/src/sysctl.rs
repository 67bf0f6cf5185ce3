//! Kernel settings under `/proc/sys/net` of the caller's network namespace, with a record of what was there before.
//!
//! Keys are written as sysctl(8) takes them: `net.ipv4.ip_forward`, or with slashes where a part holds a dot, as in
//! `net/ipv4/conf/eth0.7/rp_filter`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::error::HostError;

/// A setting as it was found and as it was left. A line of the record file: `KEY`, old value, new value, by tabs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    old: String,
    new: String,
}

/// The kernel settings of the caller's network namespace.
#[derive(Debug)]
pub struct Sysctls;

impl Sysctls {
    /// The value, without the end of the line. Values of several numbers are separated by tabs.
    ///
    /// # Errors
    /// When the key is none of ours to read, or is not there.
    pub fn read(key: &str) -> Result<String, HostError> {
        let text = fs::read_to_string(file(key)?).map_err(HostError::io(format!("read the kernel setting {key}")))?;
        Ok(text.trim_end().to_owned())
    }

    /// Sets what differs. Before anything is changed its old value is in the record, and a value that an earlier run
    /// recorded is kept: after a crash between two steps the record still tells what there was in the beginning.
    ///
    /// # Errors
    /// At the first setting that cannot be read or written; the record then covers what was done.
    pub fn set(settings: &[(&str, &str)], record: &Path) -> Result<(), HostError> {
        let mut changes = load(record)?;
        let mut differing = Vec::new();
        for (key, value) in settings {
            let old = Self::read(key)?;
            if same(&old, value) {
                continue;
            }
            let change = changes.entry((*key).to_owned()).or_insert(Change { old, new: String::new() });
            change.new = (*value).to_owned();
            differing.push((*key, *value));
        }
        if differing.is_empty() {
            return Ok(());
        }
        save(record, &changes)?;
        differing.into_iter().try_for_each(|(key, value)| write(key, value))
    }

    /// Puts the recorded settings back and removes the record. A setting that somebody changed since, or that went with
    /// its link, is left alone. Without a record there is nothing to do.
    ///
    /// # Errors
    /// When a setting cannot be written; the record then stays, to be tried again.
    pub fn restore(record: &Path) -> Result<(), HostError> {
        for (key, change) in load(record)? {
            match fs::read_to_string(file(&key)?) {
                Ok(now) if same(&now, &change.new) => write(&key, &change.old)?,
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(HostError::io(format!("read the kernel setting {key}"))(error));
                }
                _ => {}
            }
        }
        match fs::remove_file(record) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(HostError::io(format!("remove the record {}", record.display()))(error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether both hold the same words: the kernel separates them by tabs, whatever they were written with.
fn same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

fn write(key: &str, value: &str) -> Result<(), HostError> {
    fs::write(file(key)?, value).map_err(HostError::io(format!(
        "set the kernel setting {key} to {value} (a container needs a writable /proc/sys/net, as privileged ones have)"
    )))
}

/// Where the setting is; only below `net`, whose settings a namespace has of its own.
fn file(key: &str) -> Result<PathBuf, HostError> {
    let separator = if key.contains('/') { '/' } else { '.' };
    let parts: Vec<_> = key.split(separator).collect();
    if parts[0] != "net" || parts.len() < 2 || parts.iter().any(|p| p.is_empty() || *p == "..") {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "not the name of a setting below net");
        return Err(HostError::io(format!("use the kernel setting {key:?}"))(error));
    }
    Ok(Path::new("/proc/sys").join(parts.iter().collect::<PathBuf>()))
}

fn load(record: &Path) -> Result<BTreeMap<String, Change>, HostError> {
    match fs::read_to_string(record) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(HostError::io(format!("read the record {}", record.display()))(error)),
    }
}

/// Whole or not at all: written beside, brought to the disk, then renamed.
fn save(record: &Path, changes: &BTreeMap<String, Change>) -> Result<(), HostError> {
    let beside = record.with_extension("new");
    let written = fs::File::create(&beside).and_then(|mut file| {
        io::Write::write_all(&mut file, print(changes).as_bytes())?;
        file.sync_all()
    });
    let saved = written.and_then(|()| fs::rename(&beside, record));
    saved.map_err(HostError::io(format!("write the record {}", record.display())))
}

/// Tabs within a value are written as spaces, which the kernel takes just as well.
fn print(changes: &BTreeMap<String, Change>) -> String {
    let line = |(key, change): (&String, &Change)| {
        format!("{key}\t{}\t{}\n", change.old.replace('\t', " "), change.new.replace('\t', " "))
    };
    changes.iter().map(line).collect()
}

fn parse(text: &str) -> BTreeMap<String, Change> {
    let change = |line: &str| {
        let mut parts = line.splitn(3, '\t').map(str::to_owned);
        Some((parts.next()?, Change { old: parts.next()?, new: parts.next()? }))
    };
    text.lines().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_with_dots_and_with_slashes_name_the_same_file() {
        let path = Path::new("/proc/sys/net/ipv4/ip_forward");
        assert_eq!(file("net.ipv4.ip_forward").unwrap(), path);
        assert_eq!(file("net/ipv4/ip_forward").unwrap(), path);
        assert_eq!(
            file("net/ipv4/conf/eth0.7/rp_filter").unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.7/rp_filter")
        );
    }

    #[test]
    fn keys_outside_of_net_are_refused() {
        for key in ["kernel.hostname", "net/../kernel/hostname", "net", "", "net..ipv4", "/net/ipv4/ip_forward"] {
            assert!(file(key).is_err(), "{key}");
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            entries in proptest::collection::btree_map("net(\\.[a-z0-9_]{1,6}){1,3}", ("[0-9 ]{0,9}", "[0-9 ]{0,9}"), 0..5),
        ) {
            let changes: BTreeMap<_, _> =
                entries.into_iter().map(|(key, (old, new))| (key, Change { old, new })).collect();
            prop_assert_eq!(parse(&print(&changes)), changes);
        }
    }
}
