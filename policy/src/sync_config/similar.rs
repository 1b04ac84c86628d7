//! Finds the key that a misspelt one was meant to be.

/// Most letters that may be wrong.
const MAX_DISTANCE: usize = 2;
/// No documented key is longer; comparing a longer text would only cost time.
const MAX_KEY_CHARACTERS: usize = 64;

/// The candidate that differs from `word` least, in at most two letters; hyphens and case do not count.
pub(crate) fn most_similar<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let word = normalised(word)?;
    candidates
        .filter_map(|candidate| {
            let distance = distance(&word, &normalised(candidate)?);
            // For a very short word everything is similar.
            (distance <= MAX_DISTANCE && distance * 2 <= word.len()).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn normalised(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = word.chars().take(MAX_KEY_CHARACTERS + 1).collect();
    let fits = letters.len() <= MAX_KEY_CHARACTERS;
    let normalise = |letter: char| if letter == '-' { '_' } else { letter.to_ascii_lowercase() };
    fits.then(|| letters.into_iter().map(normalise).collect())
}

/// Insertions, removals and replacements that make one word of the other (Levenshtein).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.iter().enumerate() {
        let mut left = line + 1;
        let mut next = vec![left];
        for (above, other_letter) in row.windows(2).zip(other) {
            let [diagonal, straight] = above else { continue };
            let replaced = diagonal + usize::from(letter != other_letter);
            left = replaced.min(straight + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_close_words_are_suggested() {
        let known = ["aws_bucket", "aws_secret", "workers", "account"];
        for (word, meant) in [
            ("aws_buket", Some("aws_bucket")),
            ("AWS-Bucket", Some("aws_bucket")),
            ("aws_sceret", Some("aws_secret")),
            ("worker", Some("workers")),
            ("acount", Some("account")),
            ("bucket", None),
            ("w", None),
            ("", None),
        ] {
            assert_eq!(most_similar(word, known.into_iter()), meant, "{word}");
        }
        assert_eq!(most_similar(&"a".repeat(1_000_000), known.into_iter()), None);
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        let letters = |word: &str| word.chars().collect::<Vec<_>>();
        for (one, other, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("same", "same", 0)]
        {
            assert_eq!(distance(&letters(one), &letters(other)), expected, "{one} {other}");
        }
    }
}
