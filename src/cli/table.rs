//! Columns of text, as wide as what stands in them.

use super::output::harmless;

/// Rows under a head. A column whose title begins with `>` is set to the right.
#[derive(Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// A cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| harmless(&cell)).collect());
    }

    /// The lines, the head first, none with blanks at its end.
    pub fn lines(&self) -> Vec<String> {
        let title = |column: usize| self.head[column].trim_start_matches('>');
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([title(column).len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let mut line = String::new();
            for (column, cell) in cells.into_iter().enumerate() {
                let width = widths.get(column).copied().unwrap_or(0);
                let right = self.head.get(column).is_some_and(|title| title.starts_with('>'));
                line.push_str(&if right { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") });
            }
            line.trim_end().to_owned()
        };
        let head = line((0..self.head.len()).map(title).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        std::iter::once(head).chain(rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", ">LAG", "STATE"]);
        table.row(["a", "0", "running"].map(String::from));
        table.row(["patroni-2", "16 MiB", "\u{1b}[2J"].map(String::from));
        let expected =
            ["NAME          LAG  STATE", "a               0  running", "patroni-2  16 MiB  \u{fffd}[2J"];
        assert_eq!(table.lines(), expected);
    }
}
