//! Limits met past their edge, and a kernel that means harm. What peers send is the catalogue's: see `tests::catalogue`.

mod limits;
mod node;
mod pretends;
mod speaks;
