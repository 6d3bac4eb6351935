//! `G0`, `G1c` and their `-realtime` kinds: operations that depend on each other in a circle.
//!
//! The names are Elle's. A circle of `ww` edges alone is `G0`, one with a `wr` edge is `G1c`, and if real time takes part
//! in it, it has `-realtime` behind its name. As with Elle, of the operations that lead to each other each kind is told
//! once, and a kind is not told where a stronger one was found: `G0` implies all others, `G1c` and `G0-realtime` imply
//! `G1c-realtime`. What a process does one after the other is in real time too, so there is no kind of its own for it.

use std::collections::{BTreeMap, BTreeSet};

use super::Case;
use super::analysis::Analysis;
use super::graph::{Components, Edge, Graph, REALTIME, Step, WR, WW};

/// So many edges of a component are tried for a short circle.
const TRIED: usize = 24;

/// Every circle that is told.
pub fn find(analysis: &Analysis<'_>, writes: bool) -> Vec<(&'static str, Vec<Case>)> {
    let graph = Graph::new(analysis, writes);
    if graph.is_empty() {
        let text = "No operation depends on another, so nothing could be judged.".to_owned();
        let any = analysis.completions().next();
        return any
            .map(|(at, _)| ("empty-transaction-graph", vec![Case::new(text, vec![at])]))
            .into_iter()
            .collect();
    }
    let whole = graph.components(WW | WR | REALTIME);
    let mut search = Search { analysis, graph: &graph, whole: &whole };
    let mut implied = BTreeSet::new();
    let g0 = search.circles(WW, WW, &implied, "sent");
    implied.extend(g0.iter().map(|(component, _)| *component));
    let g0_realtime = search.circles(WW | REALTIME, WW, &implied, "sent");
    let g1c = search.circles(WW | WR, WR, &implied, "wrote and read");
    implied.extend(g0_realtime.iter().chain(&g1c).map(|(component, _)| *component));
    let g1c_realtime = search.circles(WW | WR | REALTIME, WR, &implied, "wrote and read");
    let named = [("G0", g0), ("G0-realtime", g0_realtime), ("G1c", g1c), ("G1c-realtime", g1c_realtime)];
    named.into_iter().map(|(name, found)| (name, found.into_iter().map(|(_, case)| case).collect())).collect()
}

struct Search<'a, 'h> {
    analysis: &'a Analysis<'h>,
    graph: &'a Graph,
    /// By all kinds of edges.
    whole: &'a Components,
}

impl Search<'_, '_> {
    /// In each component of the whole, unless something there implies it: a circle of edges of the kinds in `mask` through
    /// one of the kind `through`.
    fn circles(&mut self, mask: u8, through: u8, implied: &BTreeSet<u32>, what: &str) -> Vec<(u32, Case)> {
        let components = self.graph.components(mask);
        let mut found: BTreeMap<u32, Vec<Step>> = BTreeMap::new();
        for edges in self.graph.edges_within(&components, through, TRIED) {
            let Some((node, _)) = edges.first() else { continue };
            let component = self.whole.of[*node as usize];
            if implied.contains(&component) {
                continue;
            }
            let circles =
                edges.iter().filter_map(|(from, edge)| self.graph.circle(&components, *from, *edge, mask));
            let Some(shortest) = circles.min_by_key(Vec::len) else { continue };
            match found.get_mut(&component) {
                Some(known) if known.len() <= shortest.len() => {}
                Some(known) => *known = shortest,
                None => drop(found.insert(component, shortest)),
            }
        }
        found.into_iter().map(|(component, steps)| (component, self.tell(&steps, what))).collect()
    }

    fn tell(&self, steps: &[Step], what: &str) -> Case {
        let mut ops: Vec<usize> = steps.iter().map(|step| step.from).collect();
        ops.sort_unstable();
        ops.dedup();
        let name = |op: usize| format!("T{}", ops.binary_search(&op).map_or(0, |place| place + 1));
        let mut text = format!("{} operations {what} in a circle: ", ops.len());
        let told: Vec<String> =
            steps.iter().map(|step| self.because(step.edge, &name(step.from), &name(step.to))).collect();
        text.push_str(&told.join("; "));
        text.push('.');
        Case::new(text, ops)
    }

    fn because(&self, edge: Edge, from: &str, to: &str) -> String {
        let Edge { key, value, .. } = edge;
        match edge.kind {
            WR => format!("{to} polled {value} of key {key}, which {from} had sent"),
            WW => {
                let order = self.analysis.orders.get(&key);
                let place = order.and_then(|order| Some(order.values[order.place.get(&value)? - 1]));
                let before = place.map_or(String::new(), |value| value.to_string());
                format!("{from} sent {before} to key {key}, which lies just before {value} of {to}")
            }
            _ => format!("{from} had ended when {to} began"),
        }
    }
}
