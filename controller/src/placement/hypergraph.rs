//! Devices and LANs as a hypergraph.
//!
//! Vertices are devices, edges are LANs with two devices or more (others cost nothing wherever they lie).
//! Both are dense indices; every index that a list here holds is below the length of the list it points into.

/// A hypergraph.
#[derive(Clone, Debug, Default)]
pub(super) struct Hypergraph {
    /// The vertices of each edge, ascending.
    pub edges: Vec<Vec<usize>>,
    /// The edges of each vertex, ascending.
    pub incident: Vec<Vec<usize>>,
}

impl Hypergraph {
    /// A hypergraph of `vertices` vertices and these edges. What is no vertex is left out.
    pub(super) fn new(vertices: usize, edges: impl Iterator<Item = Vec<usize>>) -> Self {
        let mut graph = Self { edges: Vec::new(), incident: vec![Vec::new(); vertices] };
        for mut edge in edges {
            edge.retain(|vertex| *vertex < vertices);
            edge.sort_unstable();
            edge.dedup();
            if edge.len() < 2 {
                continue;
            }
            for vertex in &edge {
                graph.incident[*vertex].push(graph.edges.len());
            }
            graph.edges.push(edge);
        }
        graph
    }

    /// Number of vertices.
    pub(super) fn len(&self) -> usize {
        self.incident.len()
    }

    /// Over all edges, the parts that an edge is in beyond its first.
    pub(super) fn cut(&self, part_of: &[usize]) -> usize {
        let mut parts = Vec::new();
        let mut cut = 0;
        for edge in &self.edges {
            parts.clear();
            parts.extend(edge.iter().map(|vertex| part_of[*vertex]));
            parts.sort_unstable();
            parts.dedup();
            cut += parts.len() - 1;
        }
        cut
    }

    /// Vertices in the order of a walk in breadth from `start`; then the same from the first vertex not
    /// reached, until all are.
    pub(super) fn breadth_first(&self, start: usize) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.len());
        let mut is_seen = vec![false; self.len()];
        let mut is_used = vec![false; self.edges.len()];
        for root in std::iter::once(start).chain(0..self.len()) {
            if root >= self.len() || std::mem::replace(&mut is_seen[root], true) {
                continue;
            }
            let mut next = order.len();
            order.push(root);
            while let Some(vertex) = order.get(next).copied() {
                next += 1;
                for edge in &self.incident[vertex] {
                    // The second visit of an edge would find only seen vertices.
                    if std::mem::replace(&mut is_used[*edge], true) {
                        continue;
                    }
                    for neighbour in &self.edges[*edge] {
                        if !std::mem::replace(&mut is_seen[*neighbour], true) {
                            order.push(*neighbour);
                        }
                    }
                }
            }
        }
        order
    }
}
