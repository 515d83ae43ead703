//! How much of somebody else's text a message repeats: the only place that knows it.

/// Most characters of input in a message.
pub const MAX_EXCERPT: usize = 100;

/// The start of `text` for a message: at most [`MAX_EXCERPT`] characters, without control
/// characters, with `…` as the last one where something is missing.
pub fn excerpt(text: &str) -> String {
    let mut printable = text.chars().filter(|c| !c.is_control());
    let mut shown: String = printable.by_ref().take(MAX_EXCERPT).collect();
    if printable.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_texts_stay_as_they_are_and_long_ones_end_in_an_ellipsis() {
        assert_eq!(excerpt(""), "");
        assert_eq!(excerpt("a b"), "a b");
        assert_eq!(excerpt(&"ä".repeat(100)), "ä".repeat(100));
        assert_eq!(excerpt(&"ä".repeat(101)), format!("{}…", "ä".repeat(99)));
        assert_eq!(excerpt("a\nb\0\u{85}"), "ab");
    }

    proptest! {
        #[test]
        fn never_longer_than_it_says_and_never_with_control_characters(text: String) {
            let shown = excerpt(&text.repeat(20));
            prop_assert!(shown.chars().count() <= MAX_EXCERPT);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
