//! The store's copy on disk.
//!
//! Two files of records, `snapshot-N` and `log-N`: the store is the snapshot with the log applied. When the log has
//! outgrown the snapshot, `snapshot-N+1` is written beside them, made durable and renamed into place, and the old pair
//! goes. A record is one line, `LENGTH HASH JSON`, so that a torn tail is found and cut off.
//!
//! A write is in the kernel's hands before it is answered, so nothing that was answered is lost when the process is
//! killed. The disk gets it at most [`SYNC`] later: a power cut may cost that much, and never more than the tail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Event, EventKind, Key, key_of};
use crate::resources::Gvr;

/// How often what was written is made durable.
const SYNC: Duration = Duration::from_millis(100);

/// A log smaller than this is never compacted.
const MIN_COMPACTION: u64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    number: u64,
    log: Arc<File>,
    log_size: u64,
    snapshot_size: u64,
    syncer: Syncer,
    _lock: Flock<File>,
}

/// What a folder holds.
#[derive(Debug)]
pub(super) struct Contents {
    /// The revision of the last write.
    pub(super) revision: u64,
    pub(super) objects: Vec<(Gvr, Value)>,
}

/// Calls `fdatasync` away from the writers.
#[derive(Debug)]
struct Syncer {
    dirty: Arc<AtomicBool>,
    wake: std::sync::mpsc::SyncSender<Arc<File>>,
}

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    revision: u64,
    #[serde(borrow)]
    group: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    version: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    resource: std::borrow::Cow<'a, str>,
    /// Whether the object is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    object: std::borrow::Cow<'a, Value>,
}

type Objects = indexmap::IndexMap<(Gvr, Key), Value>;

impl Journal {
    /// Reads what the folder holds.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Contents)> {
        // Secrets are in there.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            let text = format!("{} is in use by another API server ({errno}); stop that one first", folder.display());
            io::Error::new(io::ErrorKind::AddrInUse, text)
        })?;
        let number = newest_snapshot(folder)?;
        let mut objects = Objects::new();
        let mut revision = 0;
        let snapshot_size = replay(&path(folder, "snapshot", number), &mut objects, &mut revision)?;
        let log_path = path(folder, "log", number);
        let log_size = replay(&log_path, &mut objects, &mut revision)?;
        let log = OpenOptions::new().create(true).truncate(false).write(true).open(&log_path)?;
        log.set_len(log_size)?;
        drop(log);
        let log = Arc::new(OpenOptions::new().append(true).open(&log_path)?);
        remove_others(folder, number)?;
        let journal = Journal {
            folder: folder.to_owned(),
            number,
            log,
            log_size,
            snapshot_size,
            syncer: Syncer::start()?,
            _lock: lock,
        };
        let objects = objects.into_iter().map(|((gvr, _), object)| (gvr, object)).collect();
        Ok((journal, Contents { revision, objects }))
    }

    /// Writes an event down, and starts a new snapshot with it when the log has grown long. `objects` are all objects
    /// before the event.
    pub(super) fn append<F>(&mut self, event: &Event, objects: F) -> io::Result<()>
    where
        F: FnOnce() -> Vec<(Gvr, Arc<Value>)>,
    {
        if self.log_size > MIN_COMPACTION.max(2 * self.snapshot_size) {
            self.compact(event.revision - 1, objects())?;
        }
        let line = line(&Record {
            revision: event.revision,
            group: (&*event.gvr.group).into(),
            version: (&*event.gvr.version).into(),
            resource: (&*event.gvr.resource).into(),
            deleted: event.kind == EventKind::Deleted,
            object: std::borrow::Cow::Borrowed(&*event.object),
        })?;
        if let Err(error) = (&*self.log).write_all(&line) {
            // Half a record would hide all that follow it.
            self.log.set_len(self.log_size)?;
            return Err(error);
        }
        self.log_size += line.len() as u64;
        self.syncer.later(&self.log);
        Ok(())
    }

    /// Makes everything durable now.
    pub(super) fn sync(&self) {
        if let Err(error) = self.log.sync_data() {
            tracing::error!(%error, "the API server's storage is not durable");
        }
    }

    fn compact(&mut self, revision: u64, objects: Vec<(Gvr, Arc<Value>)>) -> io::Result<()> {
        let next = self.number + 1;
        let unfinished = self.folder.join("snapshot.new");
        let mut file = io::BufWriter::new(File::create(&unfinished)?);
        let mut size = 0;
        for (gvr, object) in &objects {
            let line = line(&Record {
                revision,
                group: (&*gvr.group).into(),
                version: (&*gvr.version).into(),
                resource: (&*gvr.resource).into(),
                deleted: false,
                object: std::borrow::Cow::Borrowed(&**object),
            })?;
            size += line.len() as u64;
            file.write_all(&line)?;
        }
        file.into_inner()?.sync_all()?;
        let log = OpenOptions::new().create(true).append(true).open(path(&self.folder, "log", next))?;
        log.set_len(0)?;
        fs::rename(&unfinished, path(&self.folder, "snapshot", next))?;
        File::open(&self.folder)?.sync_all()?;
        (self.number, self.log, self.log_size, self.snapshot_size) = (next, Arc::new(log), 0, size);
        remove_others(&self.folder, next)
    }
}

impl Syncer {
    fn start() -> io::Result<Self> {
        let dirty = Arc::new(AtomicBool::new(false));
        let (wake, work) = std::sync::mpsc::sync_channel::<Arc<File>>(1);
        let flag = dirty.clone();
        let run = move || {
            while let Ok(file) = work.recv() {
                std::thread::sleep(SYNC);
                flag.store(false, Ordering::Release);
                if let Err(error) = file.sync_data() {
                    tracing::error!(%error, "the API server's storage is not durable");
                }
            }
        };
        std::thread::Builder::new().name("storage-sync".into()).spawn(run)?;
        Ok(Syncer { dirty, wake })
    }

    fn later(&self, file: &Arc<File>) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            // A full channel means that the thread is about to sync anyway.
            let _ = self.wake.try_send(file.clone());
        }
    }
}

fn path(folder: &Path, kind: &str, number: u64) -> PathBuf {
    folder.join(format!("{kind}-{number}"))
}

fn newest_snapshot(folder: &Path) -> io::Result<u64> {
    let mut newest = 0;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix("snapshot-")).and_then(|n| n.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// Removes the snapshots and logs of other numbers: what a compaction that was cut short left.
fn remove_others(folder: &Path, number: u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let of = name.strip_prefix("snapshot-").or_else(|| name.strip_prefix("log-"));
        let stale = of.is_some_and(|n| n.parse() != Ok(number)) || name == "snapshot.new";
        if stale {
            fs::remove_file(folder.join(name))?;
        }
    }
    Ok(())
}

/// Applies a file's records; gives the length of its whole records.
fn replay(path: &Path, objects: &mut Objects, revision: &mut u64) -> io::Result<u64> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut rest = bytes.as_slice();
    while let Some((record, after)) = next_record(rest) {
        rest = after;
        let gvr = Gvr::new(&record.group, &record.version, &record.resource);
        let key = (gvr, key_of(&record.object));
        *revision = record.revision.max(*revision);
        if record.deleted {
            objects.swap_remove(&key);
        } else {
            objects.insert(key, record.object.into_owned());
        }
    }
    if !rest.is_empty() {
        let (file, bytes) = (path.display(), rest.len());
        tracing::warn!("{file}: its last {bytes} bytes are no whole record and were dropped (a crash while writing)");
    }
    Ok((bytes.len() - rest.len()) as u64)
}

fn line(record: &Record<'_>) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = format!("{:08x} {:016x} ", json.len(), hash(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn next_record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let head = std::str::from_utf8(bytes.get(..26)?).ok()?;
    let length = usize::from_str_radix(head.get(..8)?, 16).ok()?;
    let expected = u64::from_str_radix(head.get(9..25)?, 16).ok()?;
    let json = bytes.get(26..26 + length)?;
    if hash(json) != expected || bytes.get(26 + length) != Some(&b'\n') {
        return None;
    }
    Some((serde_json::from_slice(json).ok()?, &bytes[27 + length..]))
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::Store;
    use crate::store::DeleteOptions;

    fn gvr() -> Gvr {
        Gvr::new("", "v1", "configmaps")
    }

    fn config_map(name: &str, text: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": {"text": text}})
    }

    #[test]
    fn a_store_opened_again_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for name in ["a", "b", "c"] {
            store.create(&gvr(), config_map(name, "one")).unwrap();
        }
        store.delete(&gvr(), "default", "b", &DeleteOptions::now()).unwrap();
        store.update(&gvr(), config_map("c", "two")).unwrap();
        let before = store.list(&gvr(), None);
        drop(store);

        let after = Store::open(folder.path()).unwrap();
        assert_eq!(after.list(&gvr(), None).items, before.items);
        assert_eq!(after.revision(), before.revision);
        assert_eq!(after.watch(&gvr(), 1).unwrap_err().code, 410);
    }

    #[test]
    fn a_torn_tail_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.create(&gvr(), config_map("a", "one")).unwrap();
        let whole = fs::metadata(folder.path().join("log-0")).unwrap().len();
        store.create(&gvr(), config_map("b", "one")).unwrap();
        drop(store);
        let length = fs::metadata(folder.path().join("log-0")).unwrap().len();
        for cut in [whole + 1, whole + 30, length - 1] {
            let copy = tempfile::tempdir().unwrap();
            let bytes = fs::read(folder.path().join("log-0")).unwrap();
            fs::write(copy.path().join("log-0"), &bytes[..cut as usize]).unwrap();
            let store = Store::open(copy.path()).unwrap();
            assert_eq!(store.count(&gvr()), 1, "cut at {cut}");
            store.create(&gvr(), config_map("c", "two")).unwrap();
            drop(store);
            assert_eq!(Store::open(copy.path()).unwrap().count(&gvr()), 2);
        }
    }

    #[test]
    fn compaction_keeps_the_objects_and_shrinks_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.create(&gvr(), config_map("a", "")).unwrap();
        let text = "x".repeat(256 << 10);
        for i in 0..40 {
            store.update(&gvr(), config_map("a", &format!("{i} {text}"))).unwrap();
        }
        let expected = store.get(&gvr(), "default", "a");
        drop(store);
        let size: u64 = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(size < 8 << 20, "{size} bytes are left");
        assert_eq!(Store::open(folder.path()).unwrap().get(&gvr(), "default", "a"), expected);
    }

    #[test]
    fn two_processes_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let _store = Store::open(folder.path()).unwrap();
        assert!(Store::open(folder.path()).unwrap_err().to_string().contains("in use"));
    }
}
