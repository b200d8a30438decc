//! A graph as a drawing.

use claviger_policy::graph::Graph;
use layout::backends::svg::SVGWriter;
use layout::gv::{DotParser, GraphBuilder};

use crate::failure::Failure;

/// The most nodes and edges that are drawn: nobody sees anything in more.
const MOST: usize = 2_000;

/// `graph` in SVG.
pub(super) fn draw(graph: &Graph) -> Result<String, Failure> {
    let size = graph.nodes.len().saturating_add(graph.edges.len());
    if MOST < size {
        let failure =
            format_args!("a drawing of {size} nodes and edges shows nothing; at most {MOST}");
        return Err(Failure::failed(failure).try_this("use --format dot, and draw a part of it"));
    }
    let dot = graph.dot();
    let tree = DotParser::new(&dot).process();
    let tree = tree.map_err(|error| Failure::failed(format_args!("cannot draw it: {error}")))?;
    let mut builder = GraphBuilder::new();
    builder.visit_graph(&tree);
    let mut writer = SVGWriter::new();
    builder.get().do_it(false, false, false, &mut writer);
    Ok(writer.finalize())
}
