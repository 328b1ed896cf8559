//! The terminal while `top` has it: raw, on its second screen, and given back whichever way that ends.
//!
//! The only file that names crossterm.

use std::io::{self, Stdout, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, Clear, ClearType};
use crossterm::{cursor, execute, queue};

/// A line and how it stands out; it says the same in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub stress: Stress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stress {
    None,
    Bold,
    Reverse,
}

/// What somebody pressed, as far as anybody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    Letter(char),
    Enter,
    Escape,
    Backspace,
    /// Ctrl-C, which is no signal in raw mode.
    Interrupt,
    /// The window has another size.
    Resized,
}

#[derive(Debug)]
pub struct Screen {
    out: Stdout,
}

impl Screen {
    /// # Errors
    /// When standard input or output is no terminal.
    pub fn open() -> io::Result<Screen> {
        terminal::enable_raw_mode()?;
        let mut screen = Screen { out: io::stdout() };
        execute!(screen.out, terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Columns and rows; a terminal that does not know has those of old.
    pub fn size(&self) -> (usize, usize) {
        match terminal::size() {
            Ok((columns, rows)) if columns > 0 && rows > 0 => (columns.into(), rows.into()),
            _ => (80, 24),
        }
    }

    /// Shows as many lines as fit, as much of each as fits.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let (columns, rows) = self.size();
        queue!(self.out, terminal::BeginSynchronizedUpdate)?;
        for row in 0..rows {
            queue!(self.out, cursor::MoveTo(0, row as u16), Clear(ClearType::CurrentLine))?;
            let Some(line) = lines.get(row) else { continue };
            let text: String = line.text.chars().take(columns).collect();
            let stress = match line.stress {
                Stress::None => Attribute::Reset,
                Stress::Bold => Attribute::Bold,
                Stress::Reverse => Attribute::Reverse,
            };
            queue!(self.out, SetAttribute(stress), Print(text), SetAttribute(Attribute::Reset))?;
        }
        queue!(self.out, terminal::EndSynchronizedUpdate)?;
        self.out.flush()
    }

    /// The next key, or `None` when `patience` is over.
    ///
    /// # Errors
    /// Those of the terminal, such as its end.
    pub fn key(&self, patience: Duration) -> io::Result<Option<Key>> {
        if !event::poll(patience)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Resize(..) => Some(Key::Resized),
            Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Interrupt),
                KeyCode::Char(_) if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                    None
                }
                KeyCode::Char(letter) => Some(Key::Letter(letter)),
                KeyCode::Enter => Some(Key::Enter),
                KeyCode::Esc => Some(Key::Escape),
                KeyCode::Backspace => Some(Key::Backspace),
                _ => None,
            },
            _ => None,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = execute!(self.out, cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}
