//! Bringing a lab up: a supervisor in a process of its own, and what it tells while it builds.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::plan::Plan;
use crate::pod::container::open_log;
use crate::spawn::Sandbox;
use crate::state::{ROOT, StateDir};
use crate::supervisor::{News, tail};
use crate::{requirements, shared, teardown};

/// Brings the lab up and returns when everything in it is ready. `program` is run as `PROGRAM lab supervise NAME`, and
/// in the lab as `PROGRAM agent …` and `PROGRAM dns …`. `progress` is told each step.
///
/// # Errors
/// Something is missing on this machine, there is such a lab already, or it does not come up: then nothing is left.
pub async fn up(plan: &Plan, program: &Path, mut progress: impl FnMut(&str)) -> anyhow::Result<()> {
    plan.validate()?;
    requirements::check(plan)?;
    let state = StateDir::new(&plan.name);
    create(plan, &state, program)?;
    let built = tokio::select! {
        built = build(&state, program, &plan.name, &mut progress) => built,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if built.is_err() {
        progress("removing what was made of it");
        let name = plan.name.clone();
        tokio::task::spawn_blocking(move || teardown::down(&name)).await??;
    }
    built
}

fn create(plan: &Plan, state: &StateDir, program: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(ROOT)?;
    let name = &plan.name;
    // Only one can make the folder: that is the lock between two who bring up the same lab.
    match std::fs::create_dir(state.path()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "the lab {name:?} is there already: take another --name, or remove it with `tombolo lab down --name {name}`"
            )
        }
        other => other.with_context(|| format!("{} cannot be made", state.path().display()))?,
    }
    shared::make(plan)?;
    std::fs::create_dir(state.bin())?;
    for link in ["tombolo", "kgctl"] {
        symlink(program, state.bin().join(link))?;
    }
    std::fs::write(state.plan(), serde_json::to_vec_pretty(plan)?)?;
    Ok(())
}

async fn build(state: &StateDir, program: &Path, name: &str, progress: &mut impl FnMut(&str)) -> anyhow::Result<()> {
    let mut command = Sandbox::default().session().command(program);
    command
        .args(["lab", "supervise", name])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(open_log(&state.supervisor_log())?);
    let mut child = tokio::process::Command::from(command).spawn().context("the supervisor does not start")?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).context("the supervisor ended at once")?;
    state.write_supervisor(pid)?;
    let stdout = child.stdout.take().context("the supervisor has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line) {
            Ok(News::Progress(text)) => progress(&text),
            Ok(News::Ready) => return Ok(()),
            Ok(News::Failed(why)) => bail!("the lab does not come up: {why}"),
            Err(_) => progress(&line),
        }
    }
    let log = state.supervisor_log();
    bail!("the supervisor ended before the lab was up; the end of its log:\n{}", tail(&log))
}
