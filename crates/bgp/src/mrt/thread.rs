//! The threads that write the files.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::files::{self, Kind, Part};
use super::{Options, encode};
use crate::speaker::monitor::{self, Desk, Item, Next, Subscription};

/// How long after a failure the folder is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Without records there is no file, and nothing to be done.
const IDLE: Duration = Duration::from_secs(3600);

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{source}{}", hint(source))]
    Io {
        #[from]
        source: io::Error,
    },
    #[error("the disk is slower than the messages that come")]
    TooSlow,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; make the folder",
        io::ErrorKind::PermissionDenied => "; let the user that runs this write to the folder",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
        _ => "",
    }
}

/// What was said of a failure, so that it is not said again.
#[derive(Default)]
struct Said(Option<String>);

impl Said {
    fn failed(&mut self, folder: &Path, what: &str, error: &Error) {
        let words = error.to_string();
        if self.0.as_ref() != Some(&words) {
            let folder = folder.display();
            tracing::warn!(%folder, "MRT: {what} are not written until this is mended: {words}");
            self.0 = Some(words);
        }
    }

    fn works(&mut self, folder: &Path, what: &str) {
        if self.0.take().is_some() {
            tracing::info!(folder = %folder.display(), "MRT: {what} are written again");
        }
    }
}

/// Looks after what the last process left in the folder.
pub(crate) fn recover(options: &Options) {
    if let Err(error) = files::recover(&options.folder) {
        tracing::debug!(%error, folder = %options.folder.display(), "MRT: nothing was recovered");
    }
}

/// Writes tables, one each time that `every` has passed.
pub(crate) fn tables(options: &Options, every: Duration, desk: &Desk) {
    let mut said = Said::default();
    while desk.wait(until_next(every, SystemTime::now())) {
        match table(options, desk) {
            Ok(()) => said.works(&options.folder, "tables"),
            Err(error) => said.failed(&options.folder, "tables", &error),
        }
    }
}

fn table(options: &Options, desk: &Desk) -> Result<(), Error> {
    let mut part = Part::create(&options.folder, Kind::Table, SystemTime::now())?;
    let Some(mut subscription) = desk.subscribe(monitor::Kind::Table) else { return Ok(()) };
    loop {
        match subscription.next(IDLE) {
            Next::Item(Item::Bytes(records)) => part.write(&records)?,
            Next::Item(Item::End) => {
                part.finish()?;
                return prune(options, Kind::Table);
            }
            Next::Item(Item::Heard(_)) | Next::Nothing => {}
            Next::TooSlow => return Err(Error::TooSlow),
            Next::Ended => return Ok(()),
        }
    }
}

/// Writes messages and changes of state as they come, into a new file each time that `every` has passed. `first` began
/// before the speaker, so that nothing is missed.
pub(crate) fn updates(options: &Options, every: Duration, desk: &Desk, mut first: Option<Subscription>) {
    let mut said = Said::default();
    loop {
        let Some(subscription) = first.take().or_else(|| desk.subscribe(monitor::Kind::Updates)) else { return };
        match record(options, every, subscription, &mut said) {
            Ok(()) => return,
            Err(error) => said.failed(&options.folder, "messages", &error),
        }
        if !desk.wait(RETRY) {
            return;
        }
    }
}

fn record(options: &Options, every: Duration, mut subscription: Subscription, said: &mut Said) -> Result<(), Error> {
    files::check(&options.folder)?;
    let mut open: Option<(Part, SystemTime)> = None;
    let mut records = Vec::new();
    loop {
        let now = SystemTime::now();
        // A clock that was set back ends a file, too.
        let left = |until: &SystemTime| until.duration_since(now).ok().filter(|left| *left <= every);
        let left = open.as_ref().map(|(_, until)| left(until).unwrap_or_default());
        let ends = match left {
            Some(Duration::ZERO) => Next::Nothing,
            left => subscription.next(left.unwrap_or(IDLE)),
        };
        let outcome = match ends {
            Next::Item(Item::Heard(batch)) => {
                records.clear();
                batch.heard.iter().for_each(|heard| encode::heard(&mut records, heard, &batch.bytes));
                if records.is_empty() {
                    continue;
                }
                let (part, _) = match &mut open {
                    Some(open) => open,
                    None => {
                        let time = batch.heard.first().map_or(now, |heard| heard.at);
                        let part = Part::create(&options.folder, Kind::Updates, time)?;
                        open.insert((part, now + until_next(every, now)))
                    }
                };
                match part.write(&records) {
                    Ok(()) => {
                        said.works(&options.folder, "messages");
                        continue;
                    }
                    Err(error) => Some(error.into()),
                }
            }
            Next::Item(_) => continue,
            Next::Nothing => None,
            Next::TooSlow => Some(Error::TooSlow),
            Next::Ended => return close(options, open.take()),
        };
        let closed = close(options, open.take());
        match outcome {
            Some(error) => return Err(error),
            None => closed?,
        }
    }
}

fn close(options: &Options, open: Option<(Part, SystemTime)>) -> Result<(), Error> {
    let Some((part, _)) = open else { return Ok(()) };
    part.finish()?;
    prune(options, Kind::Updates)
}

fn prune(options: &Options, kind: Kind) -> Result<(), Error> {
    options.keep.map_or(Ok(()), |keep| Ok(files::prune(&options.folder, kind, keep)?))
}

/// How long it is until the next multiple of `every`.
fn until_next(every: Duration, now: SystemTime) -> Duration {
    let every = every.max(Duration::from_millis(1));
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let left = every.as_millis() - since % every.as_millis();
    Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX))
}
