//! Where answers go: tables for people or JSON for programs, to standard output.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

use super::failure::Failure;
use super::table::Table;
use super::text::{harmless, harmless_json};

/// The shape of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// One JSON document
    Json,
    /// One JSON document on each line
    Jsonl,
    /// Comma-separated values, of `audit` only
    Csv,
}

impl Format {
    /// Reads the word of the settings file.
    ///
    /// # Errors
    /// Usage, if it is none of the three.
    pub fn parse(word: &str) -> Result<Self, Failure> {
        Self::from_str(word, false).map_err(|_| {
            Failure::usage(format!(
                "wrong output in the settings file, found \"{word}\": expected table, json, jsonl or csv"
            ))
        })
    }
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// True if text to a stream should be coloured.
#[must_use]
pub fn colours(choice: ColorChoice, is_terminal: bool) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    decide_colours(
        choice,
        is_terminal,
        is_set("NO_COLOR"),
        std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
    )
}

fn decide_colours(choice: ColorChoice, is_terminal: bool, no_color: bool, is_dumb: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && !no_color && !is_dumb,
    }
}

/// Standard output, and how to write to it.
pub struct Output {
    to: Box<dyn Write>,
    format: Format,
    colours: bool,
    is_terminal: bool,
}

impl Output {
    /// Writes to standard output.
    #[must_use]
    pub fn standard(format: Format, color: ColorChoice) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self { to: Box::new(io::stdout()), format, colours: colours(color, is_terminal), is_terminal }
    }

    /// The shape that was asked for.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// True if people read it.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// True if a spreadsheet reads it.
    #[must_use]
    pub fn is_csv(&self) -> bool {
        self.format == Format::Csv
    }

    /// True if a terminal shows it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// True if it may be coloured.
    #[must_use]
    pub fn colours(&self) -> bool {
        self.colours
    }

    /// One line for people; whatever is in it is made harmless.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        Ok(writeln!(self.to, "{}", harmless(text))?)
    }

    /// A table; for one without rows, `nothing` goes to standard error.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn table(&mut self, table: &Table, nothing: &str) -> Result<(), Failure> {
        if table.is_empty() {
            tell(nothing);
            return Ok(());
        }
        self.raw(&table.render(self.colours))
    }

    /// A JSON document, in lines or on one line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        let text = if self.format == Format::Jsonl { value.to_string() } else { format!("{value:#}") };
        self.raw(&format!("{}\n", harmless_json(&text)))
    }

    /// A JSON document on one line, whatever the format: for answers that have no end to wait for.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn json_line(&mut self, value: &Value) -> Result<(), Failure> {
        self.raw(&format!("{}\n", harmless_json(&value.to_string())))
    }

    /// Text that is harmless already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.to.write_all(text.as_bytes())?;
        Ok(self.to.flush()?)
    }
}

/// A record of comma-separated values, ended. Source: RFC 4180.
#[must_use]
pub fn csv_line(fields: &[String]) -> String {
    let quoted = |field: &String| {
        if field.contains([',', '"', '\n', '\r']) || field.starts_with(' ') || field.ends_with(' ') {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.clone()
        }
    };
    let fields: Vec<String> = fields.iter().map(quoted).collect();
    format!("{}\r\n", fields.join(","))
}

/// Says something beside the answer, on standard error.
pub fn tell(text: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", harmless(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_fields() {
        let fields = ["a", "b,c", "say \"x\"", "two\nlines", ""].map(str::to_owned);
        assert_eq!(csv_line(&fields), "a,\"b,c\",\"say \"\"x\"\"\",\"two\nlines\",\r\n");
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        use ColorChoice::{Always, Auto, Never};
        for (choice, is_terminal, no_color, is_dumb, expected) in [
            (Auto, true, false, false, true),
            (Auto, false, false, false, false),
            (Auto, true, true, false, false),
            (Auto, true, false, true, false),
            (Always, false, true, true, true),
            (Never, true, false, false, false),
        ] {
            assert_eq!(
                decide_colours(choice, is_terminal, no_color, is_dumb),
                expected,
                "{choice:?} {is_terminal} {no_color} {is_dumb}"
            );
        }
    }
}
