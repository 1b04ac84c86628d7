//! Rewrites a Python regular expression for the `fancy-regex` crate.
//!
//! | Python | here |
//! |---|---|
//! | `$` without the flag `m`: the end, or before a line feed at the end | `(?=\n?\z)` |
//! | `\Z`: the very end | `\z` |
//! | `{` that starts no repetition | `\{` |
//! | `{,n}` | `{0,n}` |
//! | `[`, `&`, `~` inside a character class | escaped, as they have no meaning there |
//! | `\0`, `\012`: octal; `\b` inside a class: backspace | `\x{…}` |
//! | `(?#…)` | left out |
//!
//! Source: Python Library Reference, `re`, "Regular Expression Syntax".

const END_OF_NAME: &str = r"(?=\n?\z)";

/// Rewrites a pattern, or says what in it Python does not know or cannot be rewritten.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation = Translation {
        rest: pattern,
        output: String::with_capacity(pattern.len()),
        keeps_dollar: sets_multi_line(pattern),
    };
    while let Some(character) = translation.next() {
        translation.outside_class(character)?;
    }
    Ok(translation.output)
}

struct Translation<'p> {
    rest: &'p str,
    output: String,
    keeps_dollar: bool,
}

impl Translation<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn outside_class(&mut self, character: char) -> Result<(), String> {
        match character {
            '\\' => self.escape(Place::Outside)?,
            '[' => self.class()?,
            '$' if !self.keeps_dollar => self.output.push_str(END_OF_NAME),
            '{' => self.brace(),
            '(' if self.rest.starts_with("?#") => {
                let end = self.rest.find(')').ok_or("comment without end")?;
                self.rest = self.rest.get(end + 1..).unwrap_or_default();
            }
            other => self.output.push(other),
        }
        Ok(())
    }

    fn class(&mut self) -> Result<(), String> {
        self.output.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.output.push('^');
            self.rest = rest;
        }
        // A bracket right at the start is a member.
        if let Some(rest) = self.rest.strip_prefix(']') {
            self.output.push_str("\\]");
            self.rest = rest;
        }
        loop {
            match self.next().ok_or("character class without end")? {
                ']' => break,
                '\\' => self.escape(Place::Class)?,
                member @ ('[' | '&' | '~') => self.output.extend(['\\', member]),
                '-' if self.rest.starts_with('-') => {
                    return Err("\"--\" inside a character class; write \"\\-\" for each".to_owned());
                }
                member => self.output.push(member),
            }
        }
        self.output.push(']');
        Ok(())
    }

    fn escape(&mut self, place: Place) -> Result<(), String> {
        let escaped = self.next().ok_or("backslash at the end")?;
        match (escaped, place) {
            ('Z', Place::Outside) => self.output.push_str(r"\z"),
            ('b', Place::Class) => self.output.push_str(r"\x08"),
            ('0'..='9', _) => self.number(escaped, place)?,
            ('A' | 'b' | 'B', Place::Outside) | ('d' | 'D' | 's' | 'S' | 'w' | 'W', _) => {
                self.output.extend(['\\', escaped]);
            }
            ('a' | 'f' | 'n' | 'r' | 't' | 'v' | 'x' | 'u' | 'U', _) => {
                self.output.extend(['\\', escaped]);
            }
            ('a'..='z' | 'A'..='Z', _) => return Err(format!("unknown escape \"\\{escaped}\"")),
            // Python lets every other character be escaped; here only ASCII punctuation can be.
            (other, _) if other.is_ascii_punctuation() => self.output.extend(['\\', other]),
            // White space must stay literal in verbose mode too.
            (other, _) if other.is_whitespace() => {
                self.output.push_str(&format!("\\x{{{:x}}}", u32::from(other)));
            }
            (other, _) => self.output.push(other),
        }
        Ok(())
    }

    /// A backslash and digits: octal with a leading zero, with three digits, or in a class; else a group.
    fn number(&mut self, first: char, place: Place) -> Result<(), String> {
        let mut digits = String::from(first);
        let octal = |character: char| character.is_digit(8);
        while digits.len() < 3 && self.rest.starts_with(octal) && digits.starts_with(octal) {
            digits.extend(self.next());
        }
        if first == '0' || digits.len() == 3 || place == Place::Class {
            let value = u32::from_str_radix(&digits, 8)
                .ok()
                .filter(|value| *value <= 0o377)
                .ok_or_else(|| format!("octal escape \"\\{digits}\" out of range"))?;
            self.output.push_str(&format!("\\x{{{value:x}}}"));
            return Ok(());
        }
        if digits.len() == 1 && self.rest.starts_with(|next: char| next.is_ascii_digit()) {
            digits.extend(self.next());
        }
        self.output.push('\\');
        self.output.push_str(&digits);
        // A digit behind the reference must not lengthen it.
        if self.rest.starts_with(|next: char| next.is_ascii_digit()) {
            self.output.push_str("(?:)");
        }
        Ok(())
    }

    fn brace(&mut self) {
        let repetition = self.rest.split_once('}').filter(|(bounds, _)| {
            let (low, high) = bounds.split_once(',').unwrap_or((bounds, "0"));
            let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            !bounds.is_empty() && digits(low) && digits(high)
        });
        match repetition {
            Some((bounds, behind)) => {
                let zero = if bounds.starts_with(',') { "0" } else { "" };
                self.output.push_str(&format!("{{{zero}{bounds}}}"));
                self.rest = behind;
            }
            None => self.output.push_str("\\{"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Class,
}

/// Whether a flag group, such as `(?m)` or `(?im:`, turns on the flag `m`.
fn sets_multi_line(pattern: &str) -> bool {
    pattern.split("(?").skip(1).any(|group| {
        let flags: &str =
            group.split(|character: char| !character.is_ascii_lowercase()).next().unwrap_or_default();
        let ends_as_flags =
            group.get(flags.len()..).is_some_and(|behind| behind.starts_with([')', ':', '-']));
        ends_as_flags && flags.contains('m')
    })
}
