//! The text forms of a uuid. All of PostgreSQL's, whose hyphens may stand after any group of four
//! digits, which the crate `uuid` refuses. Never allocates: it runs for each audited row.

/// The bytes of a uuid; `None` for any other text. White space around it and braces do not count,
/// nor do hyphens.
#[must_use]
pub fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let mut text = text.trim_ascii();
    while let [b'{', inner @ ..] = text {
        text = inner;
    }
    while let [inner @ .., b'}'] = text {
        text = inner;
    }
    let mut bytes = [0_u8; 16];
    let mut digits = 0;
    for letter in text.iter().filter(|letter| **letter != b'-') {
        let digit = char::from(*letter).to_digit(16)? as u8;
        *bytes.get_mut(digits / 2)? |= if digits % 2 == 0 { digit << 4 } else { digit };
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::parse;

    const BYTES: [u8; 16] = [
        0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a,
        0x11,
    ];

    #[test]
    fn each_form_of_postgresql_is_a_uuid() {
        for form in [
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            " \ta0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\n",
        ] {
            assert_eq!(parse(form.as_bytes()), Some(BYTES), "{form}");
        }
    }

    #[test]
    fn braces_and_hyphens_are_not_counted() {
        for form in [
            "{{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "-a-0eebc999c0b4ef8bb6d6bb9bd380a11--",
        ] {
            assert_eq!(parse(form.as_bytes()), Some(BYTES), "{form}");
        }
    }

    #[test]
    fn another_text_is_none() {
        for form in [
            "",
            "{}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a112",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "g0eebc999c0b4ef8bb6d6bb9bd380a11",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99 9c0b 4ef8 bb6d 6bb9bd380a11",
            "{ a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 }",
            "\u{660}0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert_eq!(parse(form.as_bytes()), None, "{form:?}");
        }
    }
}
