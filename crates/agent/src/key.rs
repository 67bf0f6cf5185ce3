//! The node's WireGuard key, kept in a file: a new key would cut the node off until everybody has read it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tombolo_net::wireguard::Key;

/// Reads the private key from `directory/key`, or makes it.
///
/// # Errors
/// The file cannot be read or written, or holds something else: it is not overwritten then.
pub fn load_or_generate(directory: &Path) -> Result<Key> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the state folder {}; see --state-dir", directory.display()))?;
    let path = directory.join("key");
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => match text.trim().parse() {
            Ok(key) => Ok(key),
            Err(error) => bail!(
                "{} does not hold a WireGuard private key ({error}); delete it to have a new one made",
                path.display()
            ),
        },
        Ok(_) => generate(directory, &path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => generate(directory, &path),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Written aside and renamed, so that a full disk or a kill leaves no half of a key behind.
fn generate(directory: &Path, path: &Path) -> Result<Key> {
    let key = tombolo_wireguard::keys::generate_private();
    let aside = directory.join("key.new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        writeln!(file, "{key}")?;
        file.sync_all()?;
        std::fs::rename(&aside, path)
    };
    write().with_context(|| format!("cannot write the private key to {}", path.display()))?;
    tracing::info!(path = %path.display(), "made a WireGuard key for this node");
    Ok(key)
}
