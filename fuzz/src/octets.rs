//! A fuzzing input read front to back as choices: how targets that want events instead of octets get them.

/// The octets left of an input. Past its end every choice is 0, so that short inputs are whole programs too.
#[derive(Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Reads `input` from the start.
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether all octets have been used.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next octet.
    pub fn octet(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two octets as a number.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.octet(), self.octet()])
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.octet())
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u8) -> u8 {
        self.octet() % limit.max(1)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.octet() & 1 == 1
    }

    /// Something, or nothing.
    pub fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| some(self))
    }

    /// One of several, which are not none.
    pub fn one_of<T: Clone>(&mut self, among: &[T]) -> T {
        among[usize::from(self.octet()) % among.len()].clone()
    }

    /// At most `limit` octets, as many as the next octet says.
    pub fn octets(&mut self, limit: usize) -> &'a [u8] {
        let length = usize::from(self.octet()).min(limit);
        self.take(length)
    }

    /// So many octets, or all that is left.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.0 = &[];
        rest
    }
}
