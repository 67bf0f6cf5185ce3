//! `tombolo accept`: takes an invitation of another cluster.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::json;
use tombolo_emitter::client::{self as emitter, Joined};
use tombolo_emitter::{Invitation, secrets};

use crate::client;
use crate::invite::{Output, moment};

/// Accept an invitation of another cluster: its services become a source of this one's
///
/// The credentials are kept in the Secret tombolo-source-NAME, which a running `tombolo controller` sees, uses and
/// renews; or in a file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What `tombolo invite` printed, or - to read it from standard input
    #[arg(required_unless_present = "renew", conflicts_with = "renew")]
    token: Option<String>,

    /// The name of the other cluster here [default: its own, where it has one]
    #[arg(long, value_name = "SOURCE")]
    name: Option<String>,

    /// The cluster that imports [default: $KUBECONFIG, else where this runs, in a pod]
    #[arg(long, value_name = "FILE", conflicts_with = "write_kubeconfig")]
    kubeconfig: Option<PathBuf>,

    /// The namespace of its controller
    #[arg(long, value_name = "NAMESPACE", default_value = "tombolo-system")]
    namespace: String,

    /// Write the credentials here and nowhere else: for `tombolo controller --source`, kubectl or Service-Reflector
    #[arg(long, value_name = "FILE")]
    write_kubeconfig: Option<PathBuf>,

    /// Renew the credentials in a file that --write-kubeconfig wrote, when it is time
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "write_kubeconfig", "name"])]
    renew: Option<PathBuf>,

    /// How to print what was done, for programs
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

/// Uses the invitation and keeps what it gives.
///
/// # Errors
/// A token that is refused, an emitter that can't be reached, a place that can't be written. What can be seen to fail
/// does so before the token is used.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(file) = &args.renew {
        return renew(file, args.output).await;
    }
    let invitation = token(args.token.as_deref().unwrap_or("-"))?.parse::<Invitation>()?;
    if let Some(file) = &args.write_kubeconfig {
        let draft = Draft::begin(file)?;
        let joined = emitter::join(&invitation).await?;
        draft.finish(&joined.kubeconfig)?;
        let source = args.name.or(invitation.from);
        return say(&joined, source.as_deref(), args.output, &format!("the file {}", file.display()));
    }
    let Some(source) = args.name.or_else(|| invitation.from.clone()) else {
        bail!("the other cluster has no name of its own; give it one by --name");
    };
    let client = client::connect(args.kubeconfig.as_deref()).await?;
    secrets::check_source(client.clone(), &args.namespace, &source).await?;
    let joined = emitter::join(&invitation).await?;
    secrets::store_source(client, &args.namespace, &source, &joined.kubeconfig)
        .await
        .context("the token is used up, and what it gave is lost; make a new one with `tombolo invite`")?;
    let place = format!("the Secret {}/{}", args.namespace, secrets::source_name(&source));
    say(&joined, Some(&source), args.output, &place)
}

fn say(joined: &Joined, source: Option<&str>, output: Option<Output>, place: &str) -> anyhow::Result<()> {
    let Joined { cluster, url, expires, .. } = joined;
    let expires = moment(*expires)?;
    match output {
        Some(Output::Json) => {
            let whole = json!({"source": source, "cluster": cluster, "url": url, "keptIn": place, "expires": expires});
            println!("{whole}");
        }
        None => {
            let source = source.unwrap_or("the other cluster");
            println!(
                "{source} admits this cluster as {cluster}. Credentials for {url} are in {place}, good until {expires}."
            );
        }
    }
    Ok(())
}

async fn renew(file: &Path, output: Option<Output>) -> anyhow::Result<()> {
    let known = std::fs::read_to_string(file).with_context(|| format!("--renew {}", file.display()))?;
    let renewed = emitter::renew_if_due(&known).await?;
    if let Some(new) = &renewed {
        Draft::begin(file)?.finish(new)?;
    }
    match (output, renewed.is_some()) {
        (Some(Output::Json), renewed) => println!("{}", json!({"renewed": renewed})),
        (None, true) => println!("The credentials in {} were renewed.", file.display()),
        (None, false) => println!("The credentials in {} are good for long enough.", file.display()),
    }
    Ok(())
}

/// The token, without what is around it.
fn token(given: &str) -> anyhow::Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().take(16 << 10).read_to_string(&mut text).context("no token can be read from standard input")?;
    Ok(text)
}

/// A file that only its owner can read, which comes whole or not at all. It is begun before the token is used, so that
/// a place that can't be written costs no token.
struct Draft {
    file: PathBuf,
    unfinished: PathBuf,
    open: std::fs::File,
}

impl Draft {
    fn begin(file: &Path) -> anyhow::Result<Self> {
        let mut name = file.file_name().with_context(|| format!("{} is no file", file.display()))?.to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let unfinished = file.with_file_name(name);
        let open = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&unfinished)
            .with_context(|| format!("{} can't be written", unfinished.display()))?;
        Ok(Draft { file: file.to_owned(), unfinished, open })
    }

    fn finish(mut self, text: &str) -> anyhow::Result<()> {
        let write = self.open.write_all(text.as_bytes()).and_then(|()| self.open.sync_all());
        write
            .and_then(|()| std::fs::rename(&self.unfinished, &self.file))
            .with_context(|| format!("{} can't be written", self.file.display()))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After it was finished there is nothing of that name.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_draft_comes_whole_or_not_at_all_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = std::env::temp_dir().join(format!("tombolo-accept-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("kubeconfig");
        drop(Draft::begin(&file).unwrap());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        Draft::begin(&file).unwrap().finish("whole").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "whole");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Draft::begin(&file).is_err());
    }
}
