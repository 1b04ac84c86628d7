//! What a client wants listed: the parameters of a container's GET, read as Swift reads them.
//!
//! Source: swift/common/request_helpers.py (`validate_container_params`), swift/container/backend.py (`list_objects_iter`).

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// The most entries of a page where Swift's own limit is not known. Source: swift/common/constraints.py,
/// `CONTAINER_LISTING_LIMIT`.
pub const DEFAULT_LIMIT: usize = 10_000;

/// Swift keeps names with this byte to itself. Source: swift/common/utils.py, `RESERVED_BYTE`.
const RESERVED: char = '\0';

/// What Swift takes for "yes". Source: swift/common/utils.py, `TRUE_VALUES`.
const TRUE_VALUES: [&str; 6] = ["true", "1", "yes", "on", "t", "y"];

/// Parameters that choose entries. An empty text is none, but for `path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Only names behind this one, in the order asked for.
    pub marker: String,
    /// Only names before this one, in the order asked for.
    pub end_marker: String,
    /// Only names that begin so.
    pub prefix: String,
    /// Rolls names up that have it behind the prefix.
    pub delimiter: String,
    /// One level below this folder; overrides prefix and delimiter.
    pub path: Option<String>,
    /// From the last name to the first.
    pub reverse: bool,
    /// Entries of the page.
    pub limit: usize,
    /// The parameter `format`, in lower case. Only [`super::Format::negotiate`] gives it a meaning.
    pub format: Option<String>,
    /// Ask the remote only once Swift has let the client in, at the price of time. For clients without credentials: whoever may not
    /// read must not be able to cause requests that cost money.
    pub waits_for_swift: bool,
    /// The client's limit as it came, if Swift would look at it.
    pub(super) asked_limit: Option<String>,
    /// Everything else of the query, as it came.
    pub(super) rest: String,
}

impl Params {
    /// Reads a query string (without its question mark). `None`: Swift refuses such a request, or answers something else than a
    /// listing of names, and must be given it as it is.
    #[must_use]
    pub fn parse(query: &str) -> Option<Self> {
        let mut params = Self { limit: DEFAULT_LIMIT, ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (raw_name, raw_value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(raw_name);
            let value = decoded(raw_value);
            // Swift takes the last of several.
            match &*name {
                b"marker" => params.marker = text(&value)?,
                b"end_marker" => params.end_marker = text(&value)?,
                b"prefix" => params.prefix = text(&value)?,
                b"delimiter" => params.delimiter = text(&value)?,
                b"path" => params.path = Some(text(&value)?),
                b"reverse" => {
                    params.reverse = TRUE_VALUES.contains(&text(&value)?.to_lowercase().as_str());
                }
                b"format" => {
                    params.format = Some(text(&value)?.to_lowercase());
                    continue;
                }
                b"limit" => {
                    let limit = text(&value)?;
                    let counts = !limit.is_empty() && limit.bytes().all(|byte| byte.is_ascii_digit());
                    params.asked_limit = counts.then_some(limit);
                    continue;
                }
                b"states" | b"includes" => {
                    text(&value)?;
                }
                // Versions are rows of another container.
                b"versions" | b"version_marker" => return None,
                _ => {}
            }
            if !params.rest.is_empty() {
                params.rest.push('&');
            }
            params.rest.push_str(pair);
        }
        if let Some(limit) = &params.asked_limit {
            params.limit = limit.parse().unwrap_or(usize::MAX);
        }
        Some(params)
    }

    /// The query that asks Swift for its part: JSON, the same entries, and the limit always named.
    #[must_use]
    pub fn local_query(&self) -> String {
        let default = self.limit.to_string();
        let limit = self.asked_limit.as_ref().unwrap_or(&default);
        let separator = if self.rest.is_empty() { "" } else { "&" };
        format!("{}{separator}format=json&limit={limit}", self.rest)
    }

    /// With the limit that holds where the client names none: the `container_listing_limit` of the cluster.
    #[must_use]
    pub fn with_default_limit(mut self, limit: usize) -> Self {
        if self.asked_limit.is_none() {
            self.limit = limit;
        }
        self
    }

    /// Whether the client named a limit that Swift looks at.
    #[must_use]
    pub fn names_limit(&self) -> bool {
        self.asked_limit.is_some()
    }

    /// What the parameters come down to.
    #[must_use]
    pub fn level(&self) -> Level {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (low, high) =
            if self.reverse { (&self.end_marker, &self.marker) } else { (&self.marker, &self.end_marker) };
        let (prefix, delimiter) = match self.path.as_deref() {
            None => (self.prefix.clone(), some(&self.delimiter)),
            Some("") => (String::new(), Some("/".to_owned())),
            Some(path) => (format!("{}/", path.trim_end_matches('/')), Some("/".to_owned())),
        };
        Level {
            prefix,
            delimiter,
            one_level: self.path.is_some(),
            low: some(low),
            high: some(high),
            reverse: self.reverse,
        }
    }
}

/// Which names a listing shows, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// What names begin with.
    pub prefix: String,
    /// What makes folders of names.
    pub delimiter: Option<String>,
    /// No folders, but the names of one level; `delimiter` is `/` then.
    pub one_level: bool,
    /// Only names behind this one, whatever the order asked for.
    pub low: Option<String>,
    /// Only names before this one.
    pub high: Option<String>,
    /// From the last name to the first.
    pub reverse: bool,
}

/// What a listing makes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Hidden,
    /// A line of its own.
    Object,
    /// A line with all names that begin with so many of its bytes.
    Folder(usize),
}

impl Level {
    /// What becomes of `name`.
    #[must_use]
    pub fn place(&self, name: &str) -> Place {
        let is_within = self.low.as_deref().is_none_or(|low| name > low)
            && self.high.as_deref().is_none_or(|high| name < high);
        if !is_within || name.is_empty() || name.contains(RESERVED) {
            return Place::Hidden;
        }
        match self.folder_end(name) {
            None if name.starts_with(&self.prefix) => {
                if self.one_level && name == self.prefix {
                    Place::Hidden
                } else {
                    Place::Object
                }
            }
            None => Place::Hidden,
            Some(end) if self.one_level => {
                if name.len() == end {
                    Place::Object
                } else {
                    Place::Hidden
                }
            }
            // Who names a folder as marker has seen it.
            Some(end) if name.get(..end) == self.low.as_deref() => Place::Hidden,
            Some(end) => Place::Folder(end),
        }
    }

    /// Where the folder ends that a name lies in, or is; `None` if it is in none.
    #[must_use]
    pub fn folder_end(&self, name: &str) -> Option<usize> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = name.strip_prefix(self.prefix.as_str())?;
        Some(self.prefix.len() + rest.find(delimiter)? + delimiter.len())
    }

    /// Whether no name at all can be shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let low = self.low.as_deref();
        let high = self.high.as_deref();
        let crossed = matches!((low, high), (Some(low), Some(high)) if low >= high);
        let behind = low.is_some_and(|low| low > self.prefix.as_str() && !low.starts_with(&self.prefix));
        let before = high.is_some_and(|high| high <= self.prefix.as_str());
        crossed || behind || before
    }
}

/// A part of a query, decoded.
fn decoded(part: &str) -> Cow<'_, [u8]> {
    if part.contains('+') {
        let spaced = part.replace('+', " ");
        return Cow::Owned(percent_decode(spaced.as_bytes()).collect());
    }
    percent_decode(part.as_bytes()).into()
}

fn text(value: &[u8]) -> Option<String> {
    std::str::from_utf8(value).ok().map(str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Params {
        Params::parse(query).unwrap()
    }

    #[test]
    fn parameters_are_decoded_and_the_last_of_several_counts() {
        let params =
            parse("marker=a%20b+c&end_marker=%C3%A9&prefix=x&prefix=y&delimiter=%2F&reverse=ON&other");
        assert_eq!(params.marker, "a b c");
        assert_eq!(params.end_marker, "é");
        assert_eq!(params.prefix, "y");
        assert_eq!(params.delimiter, "/");
        assert!(params.reverse);
        assert_eq!(params.path, None);
        assert_eq!(parse("path").path.as_deref(), Some(""));
        assert!(!parse("reverse=true&reverse=no").reverse);
        // A name may be encoded, too.
        assert_eq!(parse("%70refix=z%zz").prefix, "z%zz");
    }

    #[test]
    fn limits_are_read_as_swift_reads_them() {
        for (query, limit, local) in [
            ("", 10_000, "format=json&limit=10000"),
            ("limit=", 10_000, "format=json&limit=10000"),
            ("limit=7", 7, "format=json&limit=7"),
            ("limit=0", 0, "format=json&limit=0"),
            ("limit=007", 7, "format=json&limit=007"),
            ("limit=-1", 10_000, "format=json&limit=10000"),
            ("limit=abc", 10_000, "format=json&limit=10000"),
            ("limit=5&limit=x", 10_000, "format=json&limit=10000"),
            ("limit=20000", 20_000, "format=json&limit=20000"),
        ] {
            let params = parse(query);
            assert_eq!(params.limit, limit, "{query}");
            assert_eq!(params.local_query(), local, "{query}");
        }
        let huge = parse("limit=99999999999999999999999999");
        assert_eq!(huge.limit, usize::MAX);
        assert_eq!(huge.local_query(), "format=json&limit=99999999999999999999999999");
        assert!(huge.names_limit() && !parse("limit=").names_limit());
    }

    #[test]
    fn swift_is_asked_for_the_same_in_json() {
        let params = parse("prefix=a%2Fb&format=XML&limit=3&marker=x+y&foo&&multipart=1");
        assert_eq!(params.format.as_deref(), Some("xml"));
        assert_eq!(params.local_query(), "prefix=a%2Fb&marker=x+y&foo&multipart=1&format=json&limit=3");
    }

    #[test]
    fn what_swift_refuses_or_lists_otherwise_is_left_to_it() {
        for query in
            ["marker=%ff", "prefix=%80", "format=%ff", "limit=%ff", "states=%ff", "versions", "versions=true"]
        {
            assert_eq!(Params::parse(query), None, "{query}");
        }
        assert!(Params::parse("other=%ff").is_some());
    }

    #[test]
    fn a_path_overrides_prefix_and_delimiter() {
        for (query, prefix) in [("path=", ""), ("path=a", "a/"), ("path=a//", "a/"), ("path=/", "/")] {
            let level = parse(&format!("{query}&prefix=p&delimiter=d")).level();
            assert_eq!(level.prefix, prefix, "{query}");
            assert_eq!(level.delimiter.as_deref(), Some("/"));
            assert!(level.one_level);
        }
    }

    #[test]
    fn markers_change_places_in_reverse() {
        let level = parse("marker=x&end_marker=b&reverse=1").level();
        assert_eq!((level.low.as_deref(), level.high.as_deref()), (Some("b"), Some("x")));
        assert!(!level.is_empty());
        for query in
            ["marker=x&end_marker=b", "prefix=a&marker=b", "prefix=b&end_marker=a", "prefix=b&end_marker=b"]
        {
            assert!(parse(query).level().is_empty(), "{query}");
        }
        assert!(!parse("prefix=b&marker=a").level().is_empty());
    }
}
