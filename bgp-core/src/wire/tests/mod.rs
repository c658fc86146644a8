//! Tests of the codec as a whole; those of one part stand beside it.

mod properties;
