//! What happened, for people: kept only where somebody reads it.

use std::fmt;

use bgp_core::time::Instant;

/// Lines with their virtual times.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines.
    pub const fn kept() -> Self {
        Self { lines: Some(Vec::new()) }
    }

    /// Adds a line, if they are kept.
    pub fn note(&mut self, now: Instant, line: fmt::Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>11.6}  {line}", now.as_micros() as f64 / 1e6));
        }
    }

    /// All lines.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}
