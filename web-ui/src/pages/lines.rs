//! In which line of a JSON text something is. Pure, and never wrong in a harmful way: at worst it cannot tell.

/// The line, from 1, of what a path such as `containers[3].aws_bucket` names; of what is nearest around it if there is no such
/// thing. 0: cannot be told.
#[must_use]
pub fn line_of(document: &str, path: &str) -> usize {
    // What is no JSON at all is told by line and column.
    if let Some(rest) = path.strip_prefix("line ") {
        let digits = rest.split(|character: char| !character.is_ascii_digit()).next();
        return digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    }
    let steps = steps(path);
    if steps.is_empty() {
        return 0;
    }
    let mut reader = Reader { bytes: document.as_bytes(), at: 0 };
    let found = reader.find(&steps);
    document.get(..found).map_or(0, |before| before.bytes().filter(|byte| *byte == b'\n').count() + 1)
}

#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

fn steps(path: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    for part in path.split('.') {
        let (key, indexes) = part.find('[').map_or((part, ""), |at| part.split_at(at));
        if !key.is_empty() {
            steps.push(Step::Key(key));
        }
        for index in indexes.split(['[', ']']).filter(|text| !text.is_empty()) {
            match index.parse() {
                Ok(index) => steps.push(Step::Index(index)),
                Err(_) => steps.push(Step::Key(index.trim_matches('"'))),
            }
        }
    }
    steps
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// Where the value at these steps begins, or the last that is there on the way.
    fn find(&mut self, steps: &[Step<'_>]) -> usize {
        self.skip_space();
        let mut found = self.at;
        for step in steps {
            let is_there = match step {
                Step::Key(key) => self.enter_object(key),
                Step::Index(index) => self.enter_array(*index),
            };
            if !is_there {
                break;
            }
            self.skip_space();
            found = self.at;
        }
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_it = self.peek() == Some(byte);
        if is_it {
            self.at += 1;
        }
        is_it
    }

    /// Goes to the value of a key.
    fn enter_object(&mut self, wanted: &str) -> bool {
        if !self.take(b'{') {
            return false;
        }
        loop {
            self.skip_space();
            let start = self.at;
            if !self.skip_string() {
                return false;
            }
            let key =
                self.bytes.get(start..self.at).and_then(|text| serde_json::from_slice::<String>(text).ok());
            if !self.take(b':') {
                return false;
            }
            if key.as_deref() == Some(wanted) {
                return true;
            }
            if !self.skip_value() || !self.take(b',') {
                return false;
            }
        }
    }

    /// Goes to an element.
    fn enter_array(&mut self, index: usize) -> bool {
        if !self.take(b'[') {
            return false;
        }
        for _ in 0..index {
            if !self.skip_value() || !self.take(b',') {
                return false;
            }
        }
        true
    }

    fn skip_string(&mut self) -> bool {
        if self.peek() != Some(b'"') {
            return false;
        }
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'"' => return true,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        false
    }

    /// Over a value of any kind, without calling itself: documents may be nested as deep as they like.
    fn skip_value(&mut self) -> bool {
        let mut depth = 0_usize;
        loop {
            self.skip_space();
            match self.peek() {
                None => return false,
                Some(b'"') => {
                    if !self.skip_string() {
                        return false;
                    }
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    if depth == 0 {
                        return false;
                    }
                    depth -= 1;
                    self.at += 1;
                }
                Some(b',' | b':') => {
                    if depth == 0 {
                        return false;
                    }
                    self.at += 1;
                    continue;
                }
                Some(_) => {
                    let ends = |byte: u8| {
                        byte.is_ascii_whitespace() || matches!(byte, b',' | b':' | b'}' | b']' | b'"')
                    };
                    while self.peek().is_some_and(|byte| !ends(byte)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "{\n  \"a\\\"b\": {\"x\": [1, {\"y\": \"}\"}]},\n  \"containers\": [\n    {\n      \"account\": \"a\"\n    },\n    {\n      \"account\": \"b\",\n      \"n\": [1,\n        2]\n    }\n  ]\n}";

    #[test]
    fn places_have_lines() {
        for (path, line) in [
            ("", 0),
            ("containers", 3),
            ("containers[0]", 4),
            ("containers[0].account", 5),
            ("containers[1]", 7),
            ("containers[1].account", 8),
            ("containers[1].n[1]", 10),
            ("containers[1].missing", 7),
            ("containers[9]", 3),
            ("nothing", 1),
            ("line 43, column 5", 43),
            ("line x", 0),
        ] {
            assert_eq!(line_of(DOCUMENT, path), line, "{path}");
        }
    }

    #[test]
    fn broken_documents_break_nothing() {
        for end in 0..DOCUMENT.len() {
            let cut = DOCUMENT.get(..end).unwrap_or_default();
            assert!(line_of(cut, "containers[1].n[1]") <= cut.matches('\n').count() + 1, "{cut}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(line_of(&format!("{{\"a\":{deep}"), "b"), 1);
        assert_eq!(line_of("\"\\", "a"), 1);
    }
}
