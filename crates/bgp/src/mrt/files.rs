//! The files: not seen by their names before they are whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use time::OffsetDateTime;

/// What a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    Updates,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "rib",
            Self::Updates => "updates",
        }
    }
}

/// A file that is not whole yet.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    /// Its length with whole records only.
    length: u64,
    at: PathBuf,
    whole: Option<PathBuf>,
}

impl Part {
    /// Begins a file of records from `time` on.
    pub(super) fn create(folder: &Path, kind: Kind, time: SystemTime) -> io::Result<Self> {
        let t = OffsetDateTime::from(time);
        let (date, clock) = ((t.year(), u8::from(t.month()), t.day()), (t.hour(), t.minute(), t.second()));
        let stem = format!("{}.{:04}{:02}{:02}", kind.name(), date.0, date.1, date.2);
        let stem = format!("{stem}.{:02}{:02}{:02}", clock.0, clock.1, clock.2);
        let free = |name: &String| !folder.join(name).exists();
        let names = (0..).map(|n| if n == 0 { format!("{stem}.mrt") } else { format!("{stem}-{n}.mrt") });
        let name = names.into_iter().find(free).unwrap_or_default();
        let at = folder.join(format!(".{name}.part"));
        Ok(Self { file: File::create(&at)?, length: 0, at, whole: Some(folder.join(name)) })
    }

    /// Appends whole records.
    pub(super) fn write(&mut self, records: &[u8]) -> io::Result<()> {
        self.file.write_all(records)?;
        self.length += records.len() as u64;
        Ok(())
    }

    /// Gives the file its name. What a failed write left behind its whole records is cut off.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let Some(whole) = self.whole.take() else { return Ok(()) };
        self.file.set_len(self.length)?;
        fs::rename(&self.at, whole)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.whole.is_some() {
            let _ = fs::remove_file(&self.at);
        }
    }
}

/// Whether files can be made in a folder.
pub(super) fn check(folder: &Path) -> io::Result<()> {
    let at = folder.join(format!(".tombolo-{}.part", std::process::id()));
    fs::write(&at, "?")?;
    fs::remove_file(&at)
}

/// Looks after what a process that was killed has left: messages are kept as far as they are whole, tables are not.
pub(super) fn recover(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let at = entry?.path();
        let name = at.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".part")) else { continue };
        let is_of = |kind: Kind| name.strip_prefix(kind.name()).is_some_and(|rest| rest.starts_with('.'));
        if is_of(Kind::Table) {
            fs::remove_file(&at)?;
        } else if is_of(Kind::Updates) {
            let length = whole(&mut io::BufReader::new(File::open(&at)?))?;
            if length == 0 {
                fs::remove_file(&at)?;
                continue;
            }
            File::options().write(true).open(&at)?.set_len(length)?;
            fs::rename(&at, folder.join(name))?;
        }
    }
    Ok(())
}

/// How many bytes whole records have.
fn whole(file: &mut impl io::Read) -> io::Result<u64> {
    let mut length = 0;
    loop {
        let mut header = [0; 12];
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(length),
            other => other?,
        }
        let [.., a, b, c, d] = header;
        let body = u64::from(u32::from_be_bytes([a, b, c, d]));
        if io::copy(&mut io::Read::take(&mut *file, body), &mut io::sink())? < body {
            return Ok(length);
        }
        length += header.len() as u64 + body;
    }
}

/// Removes the oldest files of a kind over `keep`.
pub(super) fn prune(folder: &Path, kind: Kind, keep: usize) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(text) = name.to_str() else { continue };
        let of_kind = text.strip_prefix(kind.name()).is_some_and(|rest| rest.starts_with('.'));
        if of_kind && text.ends_with(".mrt") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let over = names.len().saturating_sub(keep);
    names.iter().take(over).try_for_each(|name| fs::remove_file(folder.join(name)))
}
