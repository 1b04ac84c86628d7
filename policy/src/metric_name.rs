//! The StatsD names of the predecessor, which dashboards already know.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Dots separate the parts of a name, so a part keeps none of its own.
const ENCODED_IN_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');

/// What stands for the endpoint when none is configured.
const AMAZON_ENDPOINT: &str = "S3";

/// The name of a counter: `[<prefix>.]<endpoint>.<account>.<bucket[/custom_prefix]>.<container>.<metric>`.
///
/// `prefix` and `metric` are used as they are; the four parts between them are percent-encoded, dots too.
/// `container` is the real container, also for a mapping of a whole account.
pub fn statsd_name(
    prefix: Option<&str>,
    endpoint: Option<&str>,
    account: &str,
    bucket: &str,
    custom_prefix: Option<&str>,
    container: &str,
    metric: &str,
) -> String {
    let target = match custom_prefix {
        Some(custom) if !custom.is_empty() => format!("{bucket}/{custom}"),
        _ => bucket.to_owned(),
    };
    let endpoint = endpoint.unwrap_or(AMAZON_ENDPOINT);
    let mut name = String::new();
    if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
        name.push_str(prefix);
        name.push('.');
    }
    for part in [endpoint, account, &target, container] {
        name.extend(utf8_percent_encode(part, ENCODED_IN_PART));
        name.push('.');
    }
    name.push_str(metric);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_slashes_and_non_ascii_are_encoded_in_every_part() {
        let name = statsd_name(
            None,
            Some("http://127.0.0.1:5000/auth/v1.0"),
            "accôunt",
            "bucket",
            Some("myobjïcts"),
            "cõntainer",
            "copied_objects",
        );
        assert_eq!(
            name,
            "http%3A%2F%2F127%2E0%2E0%2E1%3A5000%2Fauth%2Fv1%2E0.acc%C3%B4unt.\
             bucket%2Fmyobj%C3%AFcts.c%C3%B5ntainer.copied_objects"
        );
    }

    #[test]
    fn prefix_leads_and_a_missing_endpoint_is_called_s3() {
        let name = |prefix, custom| statsd_name(prefix, None, "AUTH_a", "b-1_2", custom, "c~", "bytes");
        assert_eq!(name(Some("site.x"), None), "site.x.S3.AUTH_a.b-1_2.c%7E.bytes");
        assert_eq!(name(Some(""), Some("")), "S3.AUTH_a.b-1_2.c%7E.bytes");
        assert_eq!(name(None, Some("p.q/")), "S3.AUTH_a.b-1_2%2Fp%2Eq%2F.c%7E.bytes");
    }
}
