//! Folders outside of all labs that programs of a lab expect. They see others in their place; so the folders must be
//! there. A lab makes those that are missing and says so in the folder of all labs, so that the last lab takes them away.

use std::io;
use std::path::{Path, PathBuf};

use crate::agent::WIREGUARD_DIR;
use crate::plan::{Interconnect, Plan, Reflector};
use crate::reflector::FRR_RUN;
use crate::state::ROOT;

/// A folder, and the file that says that a lab made it.
const FOLDERS: [(&str, &str); 2] = [(WIREGUARD_DIR, ".made-run-wireguard"), (FRR_RUN, ".made-run-frr")];

/// Makes what the plan's programs expect and is missing.
///
/// # Errors
/// The file system's.
pub fn make(plan: &Plan) -> io::Result<()> {
    for (folder, marker) in FOLDERS {
        if folder == FRR_RUN && plan.interconnect != Interconnect::Bgp(Reflector::Frr) {
            continue;
        }
        match std::fs::create_dir(folder) {
            Ok(()) => std::fs::write(made(marker), "")?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Undoes [`make`], unless somebody has put something there.
pub fn remove() {
    for (folder, marker) in FOLDERS {
        if std::fs::remove_file(made(marker)).is_ok() {
            // It is not empty when others use it.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

fn made(marker: &str) -> PathBuf {
    Path::new(ROOT).join(marker)
}
