//! Which names of secrets an installation may refer to: the operator's list of patterns. Knows no secret and not
//! where they are stored.

/// Stand for the installation's own tenant and plugin in a pattern.
const TENANT: &str = "{tenant_id}";
const PLUGIN: &str = "{plugin_key}";

/// The patterns of the setting, or no rule at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedNames {
    /// There is no list.
    #[default]
    Any,
    /// Names that match one of these patterns of LIKE.
    Matching(Vec<String>),
}

/// Whose installation it is.
#[derive(Clone, Copy, Debug)]
pub struct Installation<'a> {
    /// The tenant's id as PostgreSQL prints it.
    pub tenant: &'a str,
    /// The plugin's key.
    pub plugin: &'a str,
}

/// What one element of a pattern stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    /// `%`: any text.
    Text,
    /// `_`: any character.
    Character,
    /// This character.
    Literal(char),
}

impl AllowedNames {
    /// Reads a list: patterns with commas between them, blanks around each. An empty text is no list; one that
    /// holds commas alone allows nothing.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        if list.trim().is_empty() {
            return Self::Any;
        }
        let patterns = list.split(',').map(str::trim);
        Self::Matching(
            patterns
                .filter(|pattern| !pattern.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Whether an installation may refer to the secret of this name.
    #[must_use]
    pub fn allow(&self, name: &str, of: Installation<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Matching(patterns) => patterns.iter().any(|pattern| {
                elements(pattern, of).is_some_and(|pattern| matches(&pattern, name))
            }),
        }
    }
}

/// The elements of a pattern; what stands for the tenant and the plugin is taken as it is. `None` when nothing
/// follows the last backslash: PostgreSQL refuses such a pattern, and it allows nothing.
fn elements(pattern: &str, of: Installation<'_>) -> Option<Vec<Element>> {
    let mut elements = Vec::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        let inserted = [(TENANT, of.tenant), (PLUGIN, of.plugin)]
            .into_iter()
            .find_map(|(placeholder, value)| Some((rest.strip_prefix(placeholder)?, value)));
        if let Some((after, value)) = inserted {
            elements.extend(value.chars().map(Element::Literal));
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        elements.push(match character {
            '%' => Element::Text,
            '_' => Element::Character,
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                Element::Literal(escaped)
            }
            other => Element::Literal(other),
        });
    }
    Some(elements)
}

/// Whether the whole name matches. Where it does not go on, the last `%` takes one more character.
fn matches(pattern: &[Element], name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let (mut at, mut element) = (0, 0);
    let mut last_text = None;
    while at < name.len() {
        match pattern.get(element) {
            Some(Element::Text) => {
                last_text = Some((element, at));
                element += 1;
            }
            Some(Element::Character) => (at, element) = (at + 1, element + 1),
            Some(Element::Literal(wanted)) if *wanted == name[at] => {
                (at, element) = (at + 1, element + 1);
            }
            _ => {
                let Some((text, from)) = last_text else {
                    return false;
                };
                last_text = Some((text, from + 1));
                (at, element) = (from + 1, text + 1);
            }
        }
    }
    pattern[element..].iter().all(|left| *left == Element::Text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF: Installation<'static> = Installation {
        tenant: "8f7c1e0a-0000-4000-8000-000000000001",
        plugin: "my_crm",
    };

    fn allows(list: &str, name: &str) -> bool {
        AllowedNames::parse(list).allow(name, OF)
    }

    #[test]
    fn an_empty_list_allows_every_name_and_one_of_commas_none() {
        for list in ["", "  ", "\n"] {
            assert!(allows(list, "anything"), "{list:?}");
        }
        for list in [",", " , "] {
            assert!(!allows(list, "anything") && !allows(list, ""), "{list:?}");
        }
    }

    #[test]
    fn patterns_are_those_of_like() {
        let cases = [
            ("abc", "abc", true),
            ("abc", "ABC", false),
            ("abc", "abcd", false),
            ("abc", "xabc", false),
            ("a%", "a", true),
            ("a%", "abc", true),
            ("a%", "xabc", false),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("%", "", true),
            ("%", "any\nthing", true),
            ("a_c", "abc", true),
            ("a_c", "aäc", true),
            ("a_c", "ac", false),
            ("a__", "ab", false),
            (r"a\%", "a%", true),
            (r"a\%", "ab", false),
            (r"a\_b", "a_b", true),
            (r"a\_b", "axb", false),
            (r"a\\b", r"a\b", true),
            (r"a\b", "ab", true),
            (r"a\", r"a\", false),
            ("a%b%c", "axbxbxc", true),
            ("a%b%c", "axbxbx", false),
            ("%aab", "aaaab", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(allows(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn one_of_several_patterns_is_enough_and_blanks_around_them_do_not_count() {
        let list = " hooks/% ,\n public , ,last ";
        for name in ["hooks/a", "public", "last"] {
            assert!(allows(list, name), "{name}");
        }
        for name in ["", " public", "public ", "other"] {
            assert!(!allows(list, name), "{name}");
        }
    }

    #[test]
    fn the_tenant_and_the_plugin_are_the_installations_own() {
        let tenant = OF.tenant;
        assert!(allows("{tenant_id}/%", &format!("{tenant}/a")));
        assert!(!allows(
            "{tenant_id}/%",
            &format!("{}/a", tenant.replace('1', "2"))
        ));
        assert!(allows(
            "{plugin_key}:{tenant_id}",
            &format!("my_crm:{tenant}")
        ));
        // What is inserted holds no wildcards.
        assert!(allows("{plugin_key}", "my_crm"));
        assert!(!allows("{plugin_key}", "myxcrm"));
        // Neither more of them, nor other spellings.
        for pattern in ["{tenant}", "{TENANT_ID}", "{ tenant_id }", r"\{tenant_id}"] {
            assert!(!allows(pattern, tenant), "{pattern}");
        }
        assert!(allows(r"\{tenant_id}", "{tenant_id}"));
        let odd = Installation {
            tenant: "%",
            plugin: r"a\%{tenant_id}",
        };
        let names = AllowedNames::parse("{tenant_id}{plugin_key}");
        assert!(names.allow(r"%a\%{tenant_id}", odd));
        assert!(!names.allow("anything", odd));
    }

    /// The definition, without any thought of its cost.
    fn like(pattern: &[Element], name: &[char]) -> bool {
        match pattern {
            [] => name.is_empty(),
            [Element::Text, rest @ ..] => (0..=name.len()).any(|taken| like(rest, &name[taken..])),
            [Element::Character, rest @ ..] => !name.is_empty() && like(rest, &name[1..]),
            [Element::Literal(wanted), rest @ ..] => {
                name.first() == Some(wanted) && like(rest, &name[1..])
            }
        }
    }

    proptest! {
        #[test]
        fn matching_is_the_definition(pattern in r"[ab%_\\]{0,10}", name in "[ab%_]{0,12}") {
            let defined = elements(&pattern, OF)
                .is_some_and(|pattern| like(&pattern, &name.chars().collect::<Vec<_>>()));
            let list = AllowedNames::Matching(vec![pattern]);
            prop_assert_eq!(list.allow(&name, OF), defined);
        }

        #[test]
        fn what_is_inserted_matches_itself_alone(plugin in r"[a%_\\,{}]{1,8}", name in r"[a%_\\,{}]{1,8}") {
            let of = Installation { tenant: "t", plugin: &plugin };
            let names = AllowedNames::parse("{plugin_key}");
            prop_assert!(names.allow(&plugin, of));
            prop_assert_eq!(names.allow(&name, of), name == plugin);
        }

        #[test]
        fn never_panics(list: String, name: String, plugin: String) {
            let _ = AllowedNames::parse(&list).allow(&name, Installation { tenant: "t", plugin: &plugin });
        }

        #[test]
        fn a_long_name_takes_no_long_time(count in 1_usize..40) {
            let list = "%a".repeat(count);
            let list = format!("{list}b");
            prop_assert!(!allows(&list, &"a".repeat(1_000)));
        }
    }
}
