//! Improving a placement by moves and swaps between nodes.
//!
//! In: a placement. Out: one with the same numbers of devices per node, in another order of the nodes perhaps,
//! and a cut that is not larger. Every step that is taken makes the cut smaller, so it ends; a limit on the
//! work ends it early on very large labs.

use super::hypergraph::Hypergraph;

/// Counts looked at before refinement ends, about a tenth of a second's worth.
const WORK_MAX: usize = 30_000_000;

/// Nodes tried for a device, those that suit it best first.
const TARGETS_MAX: usize = 4;

/// Moves and swaps devices that are not pinned while the cut gets smaller.
pub(super) fn refine(graph: &Hypergraph, nodes: usize, pinned: &[Option<usize>], start: Vec<usize>) -> Vec<usize> {
    let mut refiner = Refiner::new(graph, nodes, pinned, start);
    let mut is_better = true;
    while is_better && refiner.work < WORK_MAX {
        is_better = false;
        let free = pinned.iter().enumerate().filter(|(_, pin)| pin.is_none());
        for (vertex, _) in free {
            if refiner.work < WORK_MAX {
                is_better |= refiner.improve(vertex);
            }
        }
    }
    refiner.part_of
}

struct Refiner<'a> {
    graph: &'a Hypergraph,
    part_of: Vec<usize>,
    /// The vertices of each part that are not pinned.
    free: Vec<Vec<usize>>,
    /// Number of vertices of each part.
    sizes: Vec<usize>,
    /// The parts that each edge is in, and how many of its vertices are there.
    parts: Vec<Vec<(usize, usize)>>,
    /// Edges of the vertex under consideration; all false in between.
    is_marked: Vec<bool>,
    /// Counts looked at so far.
    work: usize,
}

impl<'a> Refiner<'a> {
    fn new(graph: &'a Hypergraph, nodes: usize, pinned: &[Option<usize>], part_of: Vec<usize>) -> Self {
        let mut refiner = Self {
            graph,
            free: vec![Vec::new(); nodes],
            sizes: vec![0; nodes],
            parts: vec![Vec::new(); graph.edges.len()],
            is_marked: vec![false; graph.edges.len()],
            work: 0,
            part_of,
        };
        for (vertex, part) in refiner.part_of.iter().enumerate() {
            refiner.sizes[*part] += 1;
            if pinned[vertex].is_none() {
                refiner.free[*part].push(vertex);
            }
            for edge in &graph.incident[vertex] {
                add(&mut refiner.parts[*edge], *part);
            }
        }
        refiner
    }

    /// Vertices of `edge` in `part`.
    fn count(&self, edge: usize, part: usize) -> usize {
        let parts = self.parts[edge].iter();
        let mut counts = parts.filter(|(p, _)| *p == part).map(|(_, count)| *count);
        counts.next().unwrap_or(0)
    }

    /// How much less the cut is once `vertex` is in part `to`.
    fn gain(&self, vertex: usize, to: usize) -> i64 {
        let from = self.part_of[vertex];
        let edges = self.graph.incident[vertex].iter();
        let gain = edges.map(|edge| i64::from(self.count(*edge, from) == 1) - i64::from(self.count(*edge, to) == 0));
        gain.sum()
    }

    /// Moves or swaps `vertex` if that makes the cut smaller.
    fn improve(&mut self, vertex: usize) -> bool {
        let from = self.part_of[vertex];
        let mut targets: Vec<usize> = self.graph.incident[vertex]
            .iter()
            .flat_map(|edge| self.parts[*edge].iter().map(|(part, _)| *part))
            .filter(|part| *part != from)
            .collect();
        targets.sort_unstable();
        targets.dedup();
        let lookups: usize = self.graph.incident[vertex].iter().map(|edge| self.parts[*edge].len()).sum();
        self.work += (targets.len() + 1) * lookups;
        let mut targets: Vec<(i64, usize)> = targets.into_iter().map(|part| (self.gain(vertex, part), part)).collect();
        targets.sort_unstable_by_key(|(gain, part)| (-gain, *part));
        for (gain, to) in targets.into_iter().take(TARGETS_MAX) {
            // The sizes trade places.
            if gain > 0 && self.sizes[from] == self.sizes[to] + 1 {
                self.shift(vertex, to);
                return true;
            }
            if let Some(other) = self.partner(vertex, gain, to) {
                self.shift(vertex, to);
                self.shift(other, from);
                return true;
            }
        }
        false
    }

    /// The vertex of part `to` that `vertex`, whose move there alone would gain `gain`, had best swap with.
    fn partner(&mut self, vertex: usize, gain: i64, to: usize) -> Option<usize> {
        let from = self.part_of[vertex];
        for edge in &self.graph.incident[vertex] {
            self.is_marked[*edge] = true;
        }
        let mut best = (0, None);
        for other in &self.free[to] {
            let edges = &self.graph.incident[*other];
            self.work += edges.iter().map(|edge| self.parts[*edge].len()).sum::<usize>();
            let mut total = gain;
            for edge in edges {
                let alone_here = i64::from(self.count(*edge, from) == 1);
                total += if self.is_marked[*edge] {
                    // A LAN of both stays where it is, so what the first move counted as gain is none.
                    -alone_here
                } else {
                    let leaves = i64::from(self.count(*edge, to) == 1);
                    leaves - i64::from(self.count(*edge, from) == 0)
                };
            }
            if total > best.0 {
                best = (total, Some(*other));
            }
        }
        for edge in &self.graph.incident[vertex] {
            self.is_marked[*edge] = false;
        }
        best.1
    }

    fn shift(&mut self, vertex: usize, to: usize) {
        let from = std::mem::replace(&mut self.part_of[vertex], to);
        self.sizes[from] -= 1;
        self.sizes[to] += 1;
        self.free[from].retain(|other| *other != vertex);
        self.free[to].push(vertex);
        for edge in &self.graph.incident[vertex] {
            remove(&mut self.parts[*edge], from);
            add(&mut self.parts[*edge], to);
        }
    }
}

fn add(parts: &mut Vec<(usize, usize)>, part: usize) {
    match parts.iter_mut().find(|(p, _)| *p == part) {
        Some((_, count)) => *count += 1,
        None => parts.push((part, 1)),
    }
}

fn remove(parts: &mut Vec<(usize, usize)>, part: usize) {
    if let Some(place) = parts.iter().position(|(p, _)| *p == part) {
        match &mut parts[place] {
            (_, 1) => {
                parts.swap_remove(place);
            }
            (_, count) => *count -= 1,
        }
    }
}
