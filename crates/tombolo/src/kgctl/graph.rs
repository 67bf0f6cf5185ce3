//! `graph`: the mesh as a picture.

use std::process::ExitCode;

use clap::Args;
use tombolo_mesh::kgctl::{self, Output, View};

use super::MeshArgs;

/// The arguments of `tombolo graph`.
#[derive(Debug, Args)]
pub struct Graph {
    #[command(flatten)]
    mesh: MeshArgs,
}

impl Graph {
    /// Prints the mesh in Graphviz's DOT language.
    pub async fn run(self) -> ExitCode {
        self.mesh.run(answer).await
    }
}

pub(super) fn answer(view: &View<'_>) -> Output {
    kgctl::graph(view)
}
