//! The flags of telemetry, the same for every process. Their environment names are OpenTelemetry's own; the exporter reads further
//! ones itself (headers, timeout, interval of metrics, resource attributes).

use clap::Args;

/// See the module.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArguments {
    /// Push traces and metrics to this collector by OTLP over gRPC: http(s)://HOST:PORT
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_parser = endpoint)]
    pub otlp_endpoint: Option<String>,
    /// The part of operations that are traced, 0 to 1, where a mapping does not say its own; those that fail are kept always
    #[arg(long, value_name = "RATIO", env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 0.01, value_parser = ratio)]
    pub trace_sample_ratio: f64,
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("{error}"))?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
    match uri.authority() {
        // The message is printed, so it does not repeat what may be a password.
        Some(authority) if authority.as_str().contains('@') => {
            Err("a user or password does not belong here; use OTEL_EXPORTER_OTLP_HEADERS".into())
        }
        Some(_) if is_known => Ok(text.to_owned()),
        _ => Err("expected http://HOST:PORT or https://HOST:PORT".into()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("expected a number from 0 to 1".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_used_is_taken() {
        for (text, is_good) in [
            ("http://127.0.0.1:4317", true),
            ("https://collector.example:4317", true),
            ("collector:4317", false),
            ("ftp://collector:4317", false),
            ("http://user:secret@collector:4317", false),
            ("", false),
        ] {
            let parsed = endpoint(text);
            assert_eq!(parsed.is_ok(), is_good, "{text}");
            assert!(!parsed.is_err_and(|error| error.contains("secret")));
        }
        for (text, is_good) in [
            ("0", true),
            ("1", true),
            ("0.25", true),
            ("1.1", false),
            ("-0", true),
            ("nan", false),
            ("x", false),
        ] {
            assert_eq!(ratio(text).is_ok(), is_good, "{text}");
        }
    }
}
