//! Containers that clients make for segments of large objects, by the names they give them.

/// What such names end with. Source: `swift upload --segment-size` of python-swiftclient and rclone's Swift backend make
/// `<container>_segments`; Swift's own s3api makes `<bucket>+segments`.
const SUFFIXES: [&str; 2] = ["_segments", "+segments"];

/// Whether a container is one that clients keep segments in.
pub fn holds_segments(container: &str) -> bool {
    SUFFIXES.iter().any(|suffix| container.len() > suffix.len() && container.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_for_segments_are_told_by_their_names() {
        for (name, holds) in [
            ("photos_segments", true),
            ("photos+segments", true),
            ("_segments", false),
            ("segments", false),
            ("photos_segments_old", false),
        ] {
            assert_eq!(holds_segments(name), holds, "{name}");
        }
    }
}
