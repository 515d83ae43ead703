//! Which tests of a suite are wanted.

/// Parts of the names of the wanted tests; none at all means every test.
#[derive(Clone, Debug, Default)]
pub struct Names(Vec<String>);

impl Names {
    pub fn new(parts: Vec<String>) -> Names {
        Names(parts)
    }

    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// Whether a test of this name is wanted.
    pub fn select(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|part| name.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_wanted_when_its_name_contains_one_of_the_parts() {
        let names = Names::new(vec!["queue".to_owned(), "retry::".to_owned()]);
        assert!(names.select("the_queue_is_empty") && names.select("retry::gone"));
        assert!(!names.select("worker"));
    }

    #[test]
    fn without_names_every_test_is_wanted() {
        assert!(Names::default().select("anything"));
    }
}
