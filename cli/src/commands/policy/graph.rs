//! `claviger policy graph`.

use std::fmt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use claviger_policy::diff;
use claviger_policy::graph::{Graph as Reached, Node};
use claviger_policy::reach::Reach;
use serde::Serialize;

use super::known::Known;
use super::{compile, svg};
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::files;

#[derive(Args, Debug)]
pub(crate) struct Graph {
    /// The folder with the policies
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The form of the drawing
    #[arg(long, value_enum, default_value = "dot", value_name = "FORM")]
    format: Form,

    /// Where to write it, rather than to standard output
    #[arg(long, short = 'o', value_name = "FILE")]
    write: Option<PathBuf>,

    /// The folder with the policies to compare with: edges that these do not have are new
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,

    /// How many services each reaches, rather than a drawing
    #[arg(long, conflicts_with_all = ["write", "against"])]
    blast: bool,

    #[command(flatten)]
    known: Known,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// For Graphviz
    Dot,
    /// For programs
    Json,
    /// For browsers
    Svg,
}

impl Graph {
    pub(super) async fn run(self, console: Console) -> Result<(), Failure> {
        let set = compile(&self.dir)?;
        let known = self.known.identities(console).await?;
        let reach = Reach::of(&set, &known).map_err(|error| Failure::because(&error))?;
        let differences = match &self.against {
            Some(old) => diff::diff(&compile(old)?, &set, &known)
                .map_err(|error| Failure::because(&error))?,
            None => Vec::new(),
        };
        let graph = Reached::of(&reach, &differences);
        if self.blast {
            return console.answer(&Blast::of(graph));
        }
        let drawing = match self.format {
            Form::Dot => graph.dot(),
            Form::Json => {
                let json = serde_json::to_string_pretty(&graph);
                json.map_err(|error| Failure::because(&error))?
            }
            Form::Svg => svg::draw(&graph)?,
        };
        match &self.write {
            Some(path) => files::replace(path, drawing.as_bytes(), files::PUBLIC),
            None => console::line(drawing.trim_end()),
        }
    }
}

/// `[{"id","members","services"}]`, whoever reaches most first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Blast {
    nodes: Vec<Node>,
}

impl Blast {
    fn of(graph: Reached) -> Self {
        let mut nodes = graph.nodes;
        nodes.retain(|node| !node.id.starts_with("tool:"));
        nodes.sort_by(|a, b| (b.services, &a.id).cmp(&(a.services, &b.id)));
        Self { nodes }
    }
}

impl fmt::Display for Blast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |node: &Node| {
            let size = node.members.len();
            let more = if size < 2 { String::new() } else { format!(" (and {} more)", size - 1) };
            [node.services.to_string(), format!("{}{more}", node.id)]
        };
        let rows = self.nodes.iter().map(row).collect();
        f.write_str(&console::table(["SERVICES", "IDENTITY"], rows))
    }
}
