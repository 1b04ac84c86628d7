//! The flags of telemetry, the same for every process. The endpoint's environment name is OpenTelemetry's own; the exporter reads
//! further ones itself (headers, timeout, intervals, resource attributes).

use std::path::PathBuf;

use clap::Args;

/// See the module.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArguments {
    /// Push traces and metrics to this collector by OTLP over gRPC: http(s)://HOST:PORT
    // What is typed here may hold a password by mistake, so neither help nor errors of the command line repeat it.
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,
    /// Certificate authorities of an https collector, PEM; by default those of the system
    #[arg(long, value_name = "PATH", env = "OTEL_EXPORTER_OTLP_CERTIFICATE")]
    pub otlp_ca_cert: Option<PathBuf>,
    /// The part of operations that are traced, 0 to 1, where a mapping does not say its own; those that fail are kept always
    #[arg(long, value_name = "RATIO", env = "SWIFT_S3_TRACE_SAMPLE_RATIO", default_value_t = 0.01, value_parser = ratio)]
    pub trace_sample_ratio: f64,
}

impl TelemetryArguments {
    /// True when traces and metrics are pushed to a collector.
    #[must_use]
    pub fn has_collector(&self) -> bool {
        !super::is_disabled() && matches!(self.endpoint(), Ok(Some(_)))
    }

    /// The collector, if there is one. By OpenTelemetry's rules an empty text is none.
    ///
    /// # Errors
    /// A sentence that does not repeat what was given.
    pub(super) fn endpoint(&self) -> Result<Option<&str>, &'static str> {
        let Some(text) = self.otlp_endpoint.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let uri: http::Uri = text.parse().map_err(|_| "expected http://HOST:PORT or https://HOST:PORT")?;
        let is_known = matches!(uri.scheme_str(), Some("http" | "https"));
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err("a user or password does not belong here; use OTEL_EXPORTER_OTLP_HEADERS")
            }
            Some(_) if is_known && uri.query().is_none() && uri.path() == "/" => Ok(Some(text)),
            _ => Err("expected http://HOST:PORT or https://HOST:PORT"),
        }
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err("expected a number from 0 to 1".into()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        telemetry: TelemetryArguments,
    }

    #[test]
    fn only_what_can_be_used_is_taken_and_nothing_is_repeated() {
        for (text, is_good) in [
            ("http://127.0.0.1:4317", true),
            ("https://collector.example:4317/", true),
            ("", true),
            ("collector:4317", false),
            ("ftp://collector:4317", false),
            ("http://user:secret@collector:4317", false),
            ("http://collector:4317/?key=secret", false),
            ("http://collector:4317/v1/secret", false),
            ("secret", false),
        ] {
            let line = Line::try_parse_from(["x", "--otlp-endpoint", text]).unwrap();
            let endpoint = line.telemetry.endpoint();
            assert_eq!(endpoint.is_ok(), is_good, "{text}");
            assert!(!endpoint.is_err_and(|error| error.contains("secret")));
        }
        assert_eq!(
            Line::try_parse_from(["x", "--otlp-endpoint", ""]).unwrap().telemetry.endpoint(),
            Ok(None)
        );
        for (text, is_good) in
            [("0", true), ("1", true), ("0.25", true), ("1.1", false), ("nan", false), ("x", false)]
        {
            assert_eq!(ratio(text).is_ok(), is_good, "{text}");
        }
    }
}
