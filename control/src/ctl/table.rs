//! Tables for people: aligned columns without borders.

use comfy_table::{CellAlignment, Color, ContentArrangement, presets};

use super::text::harmless;

/// How a cell feels.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tone {
    /// As any other.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// Deserves a look.
    Odd,
    /// Needs a person.
    Bad,
}

impl Tone {
    fn color(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Good => Some(Color::DarkGreen),
            Self::Odd => Some(Color::DarkYellow),
            Self::Bad => Some(Color::DarkRed),
        }
    }

    /// `text` in this tone.
    #[must_use]
    pub fn paint(self, text: &str, colours: bool) -> String {
        let code = match self {
            Self::Plain => 0,
            Self::Good => 32,
            Self::Odd => 33,
            Self::Bad => 31,
        };
        if colours && code != 0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// A table with a header; columns whose title ends in `>` are aligned to the right.
#[derive(Debug)]
pub struct Table {
    titles: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(titles: &'static [&'static str]) -> Self {
        Self { titles, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// True without rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All lines, each ended, with nothing cut and nothing harmful in them. An empty cell shows as `-`.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if colours {
            table.enforce_styling().style_text_only();
        } else {
            table.force_no_tty();
        }
        table.set_header(self.titles.iter().map(|title| title.trim_end_matches('>')));
        for row in &self.rows {
            table.add_row(row.iter().map(shown));
        }
        for (column, title) in table.column_iter_mut().zip(self.titles) {
            column.set_padding((0, 2));
            if title.ends_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.lines().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
    }
}

fn shown(cell: &Cell) -> comfy_table::Cell {
    let text = if cell.text.is_empty() { "-".into() } else { harmless(&cell.text) };
    let shown = comfy_table::Cell::new(text);
    match cell.tone.color() {
        Some(color) => shown.fg(color),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "ROWS>", "STATE"]);
        table.row(vec!["a".into(), "7".into(), Cell::toned("synced", Tone::Good)]);
        table.row(vec!["写真\x1b[2J\n".into(), "1234".into(), "".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        assert_eq!(
            table().render(false),
            "NAME           ROWS  STATE\na                 7  synced\n写真\\x1b[2J\\n  1234  -\n"
        );
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = table().render(true);
        assert!(coloured.contains("\x1b[") && !coloured.contains("\x1b[2J"), "{coloured:?}");
        let mut plain = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\x1b') {
            plain.push_str(before);
            rest = after.split_once('m').map_or("", |(_, tail)| tail);
        }
        plain.push_str(rest);
        assert_eq!(plain, table().render(false));
    }

    #[test]
    fn long_cells_are_not_cut() {
        let mut table = Table::new(&["MESSAGE"]);
        let long = "word ".repeat(200).trim().to_owned();
        table.row(vec![long.clone().into()]);
        assert!(table.render(false).contains(&long));
    }
}
