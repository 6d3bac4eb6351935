//! Which operation depends on which, as Elle draws it for Kafka, and the circles in it.
//!
//! Nodes are the completions of operations. An edge says that the one must have taken place before the other: it wrote
//! what the other polled (`wr`), it wrote what lies before what the other wrote (`ww`, if asked for), or it had ended
//! when the other began (`realtime`). Real time would take an edge for each pair of operations; instead there are nodes
//! for moments. An operation that succeeded leads to the next moment, a moment to the next one and to what began in it.
//! So the graph is as large as the history.

use std::collections::{BTreeMap, VecDeque};

use super::analysis::Analysis;
use super::ops::Kind;

/// Kinds of edges, as bits of a mask.
pub const WW: u8 = 1;
/// The one wrote what the other polled.
pub const WR: u8 = 2;
/// The one had ended when the other began.
pub const REALTIME: u8 = 4;

/// Why a node comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The node that comes later.
    pub to: u32,
    /// One of the kinds.
    pub kind: u8,
    /// Whose value it is about; for `ww` the later one of the two.
    pub key: i64,
    /// The value.
    pub value: i64,
}

/// A step of a circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The operation that comes before.
    pub from: usize,
    /// Why.
    pub edge: Edge,
    /// The operation that comes after.
    pub to: usize,
}

/// The graph.
pub struct Graph {
    /// By node: its operation; `usize::MAX` for a moment.
    ops: Vec<usize>,
    edges: Vec<Vec<Edge>>,
}

/// No operation.
const MOMENT: usize = usize::MAX;

impl Graph {
    /// Of a history; `writes`: with the order of writes.
    pub fn new(analysis: &Analysis<'_>, writes: bool) -> Graph {
        let mut graph = Graph { ops: Vec::new(), edges: Vec::new() };
        let mut node_of: Vec<u32> = vec![u32::MAX; analysis.history.ops.len()];
        for (at, _) in analysis.completions() {
            node_of[at] = graph.add(at);
        }
        graph.data(analysis, &node_of, writes);
        graph.time(analysis, &node_of);
        graph
    }

    /// Whether no operation depends on another.
    pub fn is_empty(&self) -> bool {
        self.edges.iter().all(Vec::is_empty)
    }

    fn add(&mut self, op: usize) -> u32 {
        self.ops.push(op);
        self.edges.push(Vec::new());
        u32::try_from(self.ops.len() - 1).expect("a history is a text in memory")
    }

    fn link(&mut self, from: u32, edge: Edge) {
        if from != edge.to {
            self.edges[from as usize].push(edge);
        }
    }

    fn data(&mut self, analysis: &Analysis<'_>, node_of: &[u32], writes: bool) {
        for (&(key, value), readers) in &analysis.readers {
            let Some(&writer) = analysis.writer.get(&(key, value)) else { continue };
            for &reader in readers {
                self.link(node_of[writer], Edge { to: node_of[reader], kind: WR, key, value });
            }
        }
        for (&key, order) in analysis.orders.iter().filter(|_| writes) {
            for (&value, &place) in order.place.iter().filter(|(_, place)| **place > 0) {
                let writers = (
                    analysis.writer.get(&(key, order.values[place - 1])),
                    analysis.writer.get(&(key, value)),
                );
                if let (Some(&before), Some(&after)) = writers {
                    self.link(node_of[before], Edge { to: node_of[after], kind: WW, key, value });
                }
            }
        }
    }

    fn time(&mut self, analysis: &Analysis<'_>, node_of: &[u32]) {
        let edge = |to| Edge { to, kind: REALTIME, key: 0, value: 0 };
        let mut moment: Option<u32> = None;
        let mut ended: Vec<u32> = Vec::new();
        for (at, op) in analysis.history.ops.iter().enumerate().filter(|(_, op)| op.is_data()) {
            match op.kind {
                Kind::Ok => ended.push(node_of[at]),
                Kind::Invoke => {
                    if !ended.is_empty() {
                        let next = self.add(MOMENT);
                        moment
                            .into_iter()
                            .chain(ended.drain(..))
                            .for_each(|from| self.link(from, edge(next)));
                        moment = Some(next);
                    }
                    if let Some(moment) = moment {
                        self.link(moment, edge(node_of[op.other]));
                    }
                }
                Kind::Fail | Kind::Info => {}
            }
        }
    }

    /// Which nodes lead to each other by edges of the kinds in a mask (Tarjan's algorithm, with a stack of its own).
    pub fn components(&self, mask: u8) -> Components {
        let count = self.ops.len();
        let (mut order, mut low) = (vec![NONE; count], vec![NONE; count]);
        let mut found = Components { of: vec![NONE; count], sizes: Vec::new() };
        let (mut next, mut open) = (0, Vec::new());
        // The path to the node that is looked at, and of each node on it the edge that comes next.
        let mut path: Vec<(usize, usize)> = Vec::new();
        for root in 0..count {
            let mut enter = (order[root] == NONE).then_some(root);
            loop {
                if let Some(node) = enter.take() {
                    (order[node], low[node]) = (next, next);
                    next += 1;
                    open.push(node);
                    path.push((node, 0));
                }
                let Some((node, at)) = path.last_mut() else { break };
                let node = *node;
                if let Some(edge) = self.edges[node].get(*at) {
                    *at += 1;
                    let to = edge.to as usize;
                    if edge.kind & mask == 0 {
                        continue;
                    }
                    if order[to] == NONE {
                        enter = Some(to);
                    } else if found.of[to] == NONE {
                        low[node] = low[node].min(order[to]);
                    }
                    continue;
                }
                path.pop();
                if let Some((before, _)) = path.last() {
                    low[*before] = low[*before].min(low[node]);
                }
                if low[node] == order[node] {
                    self.close(node, &mut open, &mut found);
                }
            }
        }
        found
    }

    /// Everything that was opened since `root` is a component.
    fn close(&self, root: usize, open: &mut Vec<usize>, found: &mut Components) {
        let component = found.sizes.len() as u32;
        let mut size = 0;
        while let Some(member) = open.pop() {
            found.of[member] = component;
            size += usize::from(self.ops[member] != MOMENT);
            if member == root {
                break;
            }
        }
        found.sizes.push(size);
    }

    /// In each component that has several operations: edges of the kinds in `through` that stay in it. By component, in
    /// the order of the nodes, at most `most` of each.
    pub fn edges_within(&self, components: &Components, through: u8, most: usize) -> Vec<Vec<(u32, Edge)>> {
        let mut within: Vec<Vec<(u32, Edge)>> = vec![Vec::new(); components.sizes.len()];
        for node in 0..self.ops.len() as u32 {
            let component = components.of[node as usize];
            let known = &mut within[component as usize];
            if components.sizes[component as usize] < 2 || known.len() >= most {
                continue;
            }
            let stays = |edge: &&Edge| components.of[edge.to as usize] == component;
            let edges =
                self.edges[node as usize].iter().filter(|edge| edge.kind & through != 0).filter(stays);
            known.extend(edges.take(most - known.len()).map(|edge| (node, *edge)));
        }
        within
    }

    /// The operation of a node, if it is one.
    pub fn op(&self, node: u32) -> Option<usize> {
        Some(self.ops[node as usize]).filter(|op| *op != MOMENT)
    }

    /// A short circle that begins with an edge and stays in its component.
    pub fn circle(&self, components: &Components, from: u32, first: Edge, mask: u8) -> Option<Vec<Step>> {
        let component = components.of[from as usize];
        let mut came: BTreeMap<u32, (u32, Edge)> = BTreeMap::new();
        // Moments cost nothing: what leads through them is one step from an operation to the next.
        let mut queue: VecDeque<u32> = VecDeque::from([first.to]);
        while let Some(node) = queue.pop_front() {
            if node == from {
                return Some(self.steps(from, first, &came));
            }
            for edge in self.edges[node as usize].iter().filter(|edge| edge.kind & mask != 0) {
                let is_new = edge.to != first.to
                    && components.of[edge.to as usize] == component
                    && !came.contains_key(&edge.to);
                if is_new {
                    came.insert(edge.to, (node, *edge));
                    match self.op(edge.to) {
                        Some(_) => queue.push_back(edge.to),
                        None => queue.push_front(edge.to),
                    }
                }
            }
        }
        None
    }

    /// The way from the end of `first` back to its beginning, moments left out.
    fn steps(&self, from: u32, first: Edge, came: &BTreeMap<u32, (u32, Edge)>) -> Vec<Step> {
        let mut nodes = vec![(from, came.get(&from).map(|(_, edge)| *edge))];
        while let Some((before, _)) = came.get(&nodes[nodes.len() - 1].0) {
            nodes.push((*before, came.get(before).map(|(_, edge)| *edge)));
            if *before == first.to {
                break;
            }
        }
        nodes.reverse();
        let mut steps = Vec::new();
        let mut last = self.op(from).expect("a circle begins at an operation");
        let mut take = |to: u32, edge: Edge| {
            if let Some(op) = self.op(to) {
                steps.push(Step { from: last, edge, to: op });
                last = op;
            }
        };
        take(first.to, first);
        for (node, edge) in nodes.into_iter().skip(1) {
            take(node, edge.expect("all but the first were come to"));
        }
        steps
    }
}

/// No node, no component.
const NONE: u32 = u32::MAX;

/// Which nodes lead to each other.
pub struct Components {
    /// By node: its component.
    pub of: Vec<u32>,
    /// By component: how many operations it has.
    pub sizes: Vec<usize>,
}
