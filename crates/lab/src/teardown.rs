//! Removing a lab, whatever state it is in, from what the machine shows: namespaces by their names' start, processes by
//! the namespace that they are in. Nothing of a lab is outside of its namespaces and its folder, but its supervisor.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::state::{Process, ROOT, StateDir, labs};
use crate::{netns, plan, shared};

/// Removes the lab `name`. Whether there was anything of it.
///
/// # Errors
/// What could not be removed; what could, has been.
pub fn down(name: &str) -> io::Result<bool> {
    let state = StateDir::new(name);
    kill_supervisor(&state)?;
    let prefix = plan::prefix(name);
    let mut found = state.path().exists();
    let mut outcome = Ok(());
    for namespace in netns::list(&prefix) {
        found = true;
        outcome = outcome.and(netns::destroy(&namespace));
    }
    outcome?;
    match std::fs::remove_dir_all(state.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if labs().is_empty() {
        shared::remove();
        // Another lab may just have been made.
        let _ = std::fs::remove_dir(ROOT);
    }
    Ok(found)
}

fn kill_supervisor(state: &StateDir) -> io::Result<()> {
    let Ok(text) = std::fs::read(state.supervisor()) else { return Ok(()) };
    let Ok(process) = serde_json::from_slice::<Process>(&text) else { return Ok(()) };
    // It has nothing to save, and all that it made is found without it.
    process.signal(Signal::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(5);
    while process.is_alive() {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("the supervisor, process {}, does not die", process.pid)));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
