//! Splitting a hypergraph in two, and the halves again, until there is one part per node.
//!
//! Each split starts from several orders of the vertices (as given, and in breadth from either end), fills the
//! left side in that order, improves it after Fiduccia and Mattheyses, and keeps the best. Their moves
//! alternate between the sides so that every other state has exactly the wished sizes; a pass takes each
//! vertex once, by the gain it brings even if negative, and is undone back to its best balanced state.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::hypergraph::Hypergraph;

/// Passes over a split; nearly all gain comes with the first few.
const PASSES_MAX: usize = 6;

/// A pass ends after this many moves without a new best, or a quarter of the vertices.
const IDLE_MOVES_MIN: usize = 64;

/// The part of each vertex: `sizes` tells how many vertices each has, `pinned` where some must be.
///
/// The sizes add up to the number of vertices, and no part has more pinned vertices than its size.
pub(super) fn partition(graph: &Hypergraph, sizes: &[usize], pinned: &[Option<usize>]) -> Vec<usize> {
    let mut part_of = vec![0; graph.len()];
    let vertices: Vec<usize> = (0..graph.len()).collect();
    let mut open = vec![(vertices, 0..sizes.len())];
    while let Some((vertices, parts)) = open.pop() {
        if parts.len() <= 1 || vertices.is_empty() {
            for vertex in vertices {
                part_of[vertex] = parts.start;
            }
            continue;
        }
        let middle = parts.start + parts.len() / 2;
        let (left, right) = split(graph, &vertices, &parts, middle, sizes, pinned);
        open.push((left, parts.start..middle));
        open.push((right, middle..parts.end));
    }
    part_of
}

/// Splits `vertices` between the parts before `middle` and those from it on.
fn split(
    graph: &Hypergraph,
    vertices: &[usize],
    parts: &Range<usize>,
    middle: usize,
    sizes: &[usize],
    pinned: &[Option<usize>],
) -> (Vec<usize>, Vec<usize>) {
    let local = sub_graph(graph, vertices);
    let left_size: usize = sizes[parts.start..middle].iter().sum();
    let fixed: Vec<Option<Side>> =
        vertices.iter().map(|vertex| pinned[*vertex].map(|part| Side::from_left(part < middle))).collect();
    let forward = local.breadth_first(0);
    let backward = local.breadth_first(forward.last().copied().unwrap_or_default());
    let orders = [(0..local.len()).collect(), forward, backward];
    let best = orders
        .iter()
        .map(|order: &Vec<usize>| {
            let mut bisection = Bisection::new(&local, &fixed, order, left_size);
            bisection.improve();
            bisection
        })
        .min_by_key(Bisection::cut);
    let mut halves = (Vec::new(), Vec::new());
    if let Some(best) = best {
        for (vertex, side) in vertices.iter().zip(&best.side) {
            match side {
                Side::Left => halves.0.push(*vertex),
                Side::Right => halves.1.push(*vertex),
            }
        }
    }
    halves
}

/// The hypergraph that `vertices`, ascending, have among themselves.
fn sub_graph(graph: &Hypergraph, vertices: &[usize]) -> Hypergraph {
    let mut touched: Vec<usize> = vertices.iter().flat_map(|vertex| graph.incident[*vertex].iter().copied()).collect();
    touched.sort_unstable();
    touched.dedup();
    let edges = touched.iter().map(|edge| {
        let members = graph.edges[*edge].iter();
        members.filter_map(|vertex| vertices.binary_search(vertex).ok()).collect()
    });
    Hypergraph::new(vertices.len(), edges)
}

/// A side of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Side {
    const fn from_left(is_left: bool) -> Self {
        if is_left { Self::Left } else { Self::Right }
    }

    const fn other(self) -> Self {
        Self::from_left(matches!(self, Self::Right))
    }
}

/// A hypergraph split in two.
struct Bisection<'a> {
    graph: &'a Hypergraph,
    /// Where a vertex must be.
    fixed: &'a [Option<Side>],
    side: Vec<Side>,
    /// Vertices of each edge on the left and on the right.
    count: Vec<[usize; 2]>,
    left_size: usize,
    /// What `left_size` is to be.
    left_target: usize,
}

/// Vertices that a pass may still move, best gain first. Entries whose gain has changed since are skipped.
type Queue = BinaryHeap<(i64, Reverse<usize>)>;

impl<'a> Bisection<'a> {
    fn new(graph: &'a Hypergraph, fixed: &'a [Option<Side>], order: &[usize], left_target: usize) -> Self {
        let fixed_left = fixed.iter().filter(|s| **s == Some(Side::Left)).count();
        let mut room = left_target - fixed_left;
        let mut side = vec![Side::Right; graph.len()];
        for vertex in order {
            side[*vertex] = fixed[*vertex].unwrap_or_else(|| {
                let is_left = room > 0;
                room -= usize::from(is_left);
                Side::from_left(is_left)
            });
        }
        let mut count = vec![[0; 2]; graph.edges.len()];
        for (edge, count) in graph.edges.iter().zip(&mut count) {
            for vertex in edge {
                count[side[*vertex] as usize] += 1;
            }
        }
        Self { graph, fixed, side, count, left_size: left_target, left_target }
    }

    /// Edges with vertices on both sides.
    fn cut(&self) -> usize {
        let is_cut = |count: &&[usize; 2]| count[0] > 0 && count[1] > 0;
        self.count.iter().filter(is_cut).count()
    }

    fn improve(&mut self) {
        for _ in 0..PASSES_MAX {
            if !self.pass() {
                return;
            }
        }
    }

    /// How much less the cut is once `vertex` has changed sides.
    fn gain(&self, vertex: usize) -> i64 {
        let from = self.side[vertex];
        let edges = self.graph.incident[vertex].iter();
        let gain = edges.map(|edge| {
            let count = self.count[*edge];
            i64::from(count[from as usize] == 1) - i64::from(count[from.other() as usize] == 0)
        });
        gain.sum()
    }

    /// One pass; whether the cut is smaller after it.
    fn pass(&mut self) -> bool {
        let mut gains: Vec<i64> = (0..self.graph.len()).map(|v| self.gain(v)).collect();
        let mut is_locked: Vec<bool> = self.fixed.iter().map(Option::is_some).collect();
        let mut queues = [Queue::new(), Queue::new()];
        for vertex in (0..self.graph.len()).filter(|v| !is_locked[*v]) {
            queues[self.side[vertex] as usize].push((gains[vertex], Reverse(vertex)));
        }
        let idle_max = IDLE_MOVES_MIN.max(self.graph.len() / 4);
        let mut moves = Vec::new();
        let (mut total, mut best, mut kept) = (0, 0, 0);
        while moves.len() - kept <= idle_max {
            let Some(vertex) = self.choose(&mut queues, &gains, &is_locked) else {
                break;
            };
            total += gains[vertex];
            is_locked[vertex] = true;
            self.flip_and_update(vertex, &mut gains, &is_locked, &mut queues);
            moves.push(vertex);
            if total > best && self.left_size == self.left_target {
                (best, kept) = (total, moves.len());
            }
        }
        for vertex in moves.drain(kept..) {
            self.flip(vertex);
        }
        best > 0
    }

    /// The next vertex to move: from the side that has too many, else from where it gains more.
    fn choose(&self, queues: &mut [Queue; 2], gains: &[i64], is_locked: &[bool]) -> Option<usize> {
        for (side, queue) in queues.iter_mut().enumerate() {
            let is_stale = |(gain, Reverse(vertex)): &(i64, Reverse<usize>)| {
                is_locked[*vertex] || gains[*vertex] != *gain || self.side[*vertex] as usize != side
            };
            while queue.peek().is_some_and(is_stale) {
                queue.pop();
            }
        }
        let [left, right] = queues;
        let queue = match self.left_size.cmp(&self.left_target) {
            std::cmp::Ordering::Greater => left,
            std::cmp::Ordering::Less => right,
            // A move alone would leave the sizes wrong for good.
            std::cmp::Ordering::Equal if left.is_empty() || right.is_empty() => return None,
            std::cmp::Ordering::Equal if right.peek() > left.peek() => right,
            std::cmp::Ordering::Equal => left,
        };
        queue.pop().map(|(_, Reverse(vertex))| vertex)
    }

    fn flip(&mut self, vertex: usize) {
        let from = self.side[vertex];
        for edge in &self.graph.incident[vertex] {
            self.count[*edge][from as usize] -= 1;
            self.count[*edge][from.other() as usize] += 1;
        }
        self.side[vertex] = from.other();
        match from {
            Side::Left => self.left_size -= 1,
            Side::Right => self.left_size += 1,
        }
    }

    /// Flips `vertex` and brings the gains of its neighbours up to date. Only edges that have at most one
    /// vertex on a side, before or after, change any gain.
    fn flip_and_update(&mut self, vertex: usize, gains: &mut [i64], is_locked: &[bool], queues: &mut [Queue; 2]) {
        let to = self.side[vertex].other();
        self.flip(vertex);
        for edge in &self.graph.incident[vertex] {
            let after = self.count[*edge];
            let (left_behind, joined) = (after[to.other() as usize], after[to as usize]);
            if left_behind > 1 && joined > 2 {
                continue;
            }
            for neighbour in &self.graph.edges[*edge] {
                if is_locked[*neighbour] {
                    continue;
                }
                let change = if self.side[*neighbour] == to {
                    // It could leave the other side to this one no more; or the other side is empty now.
                    -i64::from(joined == 2) - i64::from(left_behind == 0)
                } else {
                    i64::from(joined == 1) + i64::from(left_behind == 1)
                };
                if change != 0 {
                    gains[*neighbour] += change;
                    let side = self.side[*neighbour] as usize;
                    queues[side].push((gains[*neighbour], Reverse(*neighbour)));
                }
            }
        }
    }
}
