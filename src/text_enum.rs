//! Enums that tables store as text. Knows none of them.

/// An enum that a table stores as text, one word a value.
pub trait TextEnum: Copy + Eq + 'static {
    const ALL: &'static [Self];

    /// The word in the database.
    fn as_str(self) -> &'static str;

    /// The value of exactly this word.
    fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|value| value.as_str() == word)
    }
}
