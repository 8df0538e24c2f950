//! Terraform's process, with the same shapes made of `terraform_data`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use xtask::graph::{Graph, Shape};

use super::measure::{Error, child};
use super::results::{Case, Sample, Stage};

/// The installed terraform.
pub(crate) struct Terraform {
    version: String,
    work: PathBuf,
}

impl Terraform {
    /// Looks whether it is installed.
    pub(crate) fn find(work: PathBuf) -> Result<Option<Self>, Error> {
        let Ok(output) = command(Path::new(".")).arg("version").output() else { return Ok(None) };
        fs::create_dir_all(&work).map_err(|source| Error::io("make", &work, source))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().next().unwrap_or_default().trim_start_matches("Terraform v").to_owned();
        Ok(Some(Self { version, work }))
    }

    /// Its version.
    pub(crate) fn version(&self) -> String {
        self.version.clone()
    }

    /// The folder of a graph, initialised.
    fn folder(&self, shape: Shape, nodes: usize) -> Result<PathBuf, Error> {
        let folder = self.work.join(format!("{shape}-{nodes}"));
        if !folder.exists() {
            fs::create_dir_all(&folder).map_err(|source| Error::io("make", &folder, source))?;
            let file = folder.join("main.tf");
            fs::write(&file, configuration(shape, nodes)).map_err(|source| Error::io("write", &file, source))?;
            // The provider of `terraform_data` is built in: nothing is fetched.
            child(command(&folder).args(["init", "-input=false"]), &self.work)?;
        }
        Ok(folder)
    }

    /// Measures one round of a case: a plan, an apply, and a plan without changes.
    pub(crate) fn measure(&self, case: &mut Case) -> Result<(), Error> {
        let folder = self.folder(case.shape, case.nodes)?;
        let began = Instant::now();
        for name in ["terraform.tfstate", "terraform.tfstate.backup"] {
            let path = folder.join(name);
            if path.exists() {
                fs::remove_file(&path).map_err(|source| Error::io("remove", &path, source))?;
            }
        }
        for stage in [Stage::Plan, Stage::Apply, Stage::Replan] {
            let arguments: &[&str] = match stage {
                Stage::Apply => &["apply", "-auto-approve", "-input=false", "-no-color"],
                _ => &["plan", "-input=false", "-no-color"],
            };
            let taken = child(command(&folder).args(arguments), &self.work)?;
            case.note(stage, Sample { taken, ..Sample::default() });
        }
        case.round_over(began);
        Ok(())
    }
}

/// A user's settings (mirrors, credentials) have no part in it.
fn command(folder: &Path) -> Command {
    let mut command = Command::new("terraform");
    command.current_dir(folder).env_remove("TF_CLI_CONFIG_FILE").env("CHECKPOINT_DISABLE", "1");
    command
}

/// The graph in terraform's language: `count` where nodes are alike, else a resource each.
fn configuration(shape: Shape, nodes: usize) -> String {
    if shape == Shape::Flat {
        return format!(
            "resource \"terraform_data\" \"n\" {{\n  count = {nodes}\n  input = \"value-${{count.index}}\"\n}}\n"
        );
    }
    let mut text = String::new();
    for node in Graph::generate(shape, nodes).nodes {
        let needs: Vec<String> = node.needs.iter().map(|needed| format!("terraform_data.n{needed:06}")).collect();
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "resource \"terraform_data\" \"{}\" {{\n  input      = \"{}\"\n  depends_on = [{}]\n}}\n",
            node.name,
            node.input,
            needs.join(", ")
        );
    }
    text
}
