//! One line of text to words, as HAProxy cuts it (configuration.txt, sections 2.2 and 2.3).
//!
//! Blanks divide words, `#` begins a comment. A backslash, single or double quotes take a character's meaning away; within
//! double quotes, and only there, `$NAME`, `${NAME}`, `${NAME-default}` and `${NAME[*]}` stand for variables.

use std::iter::Peekable;
use std::str::Chars;

/// What a line was cut into.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub words: Vec<String>,
    /// Variables that were asked for and are not set: HAProxy reads them as empty.
    pub unset: Vec<String>,
    /// Variables that were filled in.
    pub filled: Vec<String>,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Cuts one line, which has no line break. An error says what HAProxy would not accept.
pub fn cut(line: &str, env: Environment<'_>) -> Result<Cut, String> {
    let mut cutter = Cutter { rest: line.chars().peekable(), word: None, cut: Cut::default(), env };
    cutter.run()?;
    cutter.end_word();
    Ok(cutter.cut)
}

/// The same line with the variables in the address of a `bind` or `server` filled in, which HAProxy does outside of quotes
/// too.
pub fn with_address(mut cut: Cut, env: Environment<'_>) -> Result<Cut, String> {
    let at = match cut.words.first().map(String::as_str) {
        Some("bind") => 1,
        Some("server") => 2,
        Some("server-template") => 3,
        _ => return Ok(cut),
    };
    if let Some(address) = cut.words.get_mut(at).filter(|address| address.contains('$')) {
        let filled = self::cut(&format!("\"{address}\""), env)?;
        *address = filled.words.concat();
        cut.unset.extend(filled.unset);
        cut.filled.extend(filled.filled);
    }
    Ok(cut)
}

struct Cutter<'a> {
    rest: Peekable<Chars<'a>>,
    /// `None` between words: an empty pair of quotes is a word too.
    word: Option<String>,
    cut: Cut,
    env: Environment<'a>,
}

impl Cutter<'_> {
    fn run(&mut self) -> Result<(), String> {
        let mut quote = None;
        while let Some(c) = self.rest.next() {
            match (quote, c) {
                (_, '\0') => return Err("there is a NUL byte in the line; is this a text file?".into()),
                (None, ' ' | '\t') => self.end_word(),
                (None, '#') => return Ok(()),
                (None, '"' | '\'') => {
                    quote = Some(c);
                    self.word.get_or_insert_default();
                }
                (Some(open), c) if open == c => quote = None,
                (None | Some('"'), '\\') => self.escape()?,
                (Some('"'), '$') => self.variable()?,
                (_, c) => self.push(c),
            }
        }
        match quote {
            Some(open) => Err(format!("the quote {open} is opened and never closed")),
            None => Ok(()),
        }
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        self.cut.words.extend(self.word.take());
    }

    /// What follows a backslash. One that means nothing stays as it is.
    fn escape(&mut self) -> Result<(), String> {
        let meant = match self.rest.peek() {
            Some(c @ (' ' | '\t' | '\\' | '#' | '"' | '\'' | '$')) => *c,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('x') => {
                self.rest.next();
                let digits: Option<Vec<u32>> =
                    (0..2).map(|_| self.rest.next().and_then(|c| c.to_digit(16))).collect();
                let code = digits.map_or(0, |digits| digits[0] * 16 + digits[1]);
                let c = char::from_u32(code).filter(|c| *c != '\0');
                self.push(c.ok_or("\\x needs two hexadecimal digits, not 00")?);
                return Ok(());
            }
            _ => {
                self.push('\\');
                return Ok(());
            }
        };
        self.rest.next();
        self.push(meant);
        Ok(())
    }

    /// What follows a dollar within double quotes.
    fn variable(&mut self) -> Result<(), String> {
        let braced = self.rest.next_if_eq(&'{').is_some();
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.')) {
            name.push(c);
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err("a $ within double quotes needs the name of a variable; \\$ is the character".into());
        }
        let (mut many, mut default) = (false, None);
        if braced {
            let inside: String = std::iter::from_fn(|| self.rest.next_if(|c| *c != '}')).collect();
            if self.rest.next().is_none() {
                return Err(format!("${{{name} has no closing brace"));
            }
            let inside = match inside.strip_prefix("[*]") {
                Some(after) => {
                    many = true;
                    after
                }
                None => &inside,
            };
            default = inside.strip_prefix('-').map(str::to_owned);
            if default.is_none() && !inside.is_empty() {
                return Err(format!(
                    "${{{name}{inside}}} is not a variable; write ${{{name}}} or ${{{name}-default}}"
                ));
            }
        }
        let value = (self.env)(&name);
        match (&value, &default) {
            (Some(_), _) => self.cut.filled.push(name),
            (None, Some(_)) => {}
            (None, None) => self.cut.unset.push(name),
        }
        self.fill(&value.or(default).unwrap_or_default(), many);
        Ok(())
    }

    /// Puts a value in place; of `many` words each becomes one.
    fn fill(&mut self, value: &str, many: bool) {
        self.word.get_or_insert_default();
        for c in value.chars() {
            match c {
                ' ' if many => self.end_word(),
                // Nothing that HAProxy is told in a word has a line break or the like in it.
                c if !c.is_control() => self.push(c),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{cut, with_address};

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".into()),
            "LIST" => Some("a b".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn lines_are_cut_as_haproxy_cuts_them() {
        for (line, words) in [
            ("  bind\t*:5000 # all", &["bind", "*:5000"][..]),
            ("global#this is the global section", &["global"]),
            (r#"log-format %{+Q}o\ %t\ %s"#, &["log-format", "%{+Q}o %t %s"]),
            (r#"log-format "%{+Q}o %t"' %s'\ x"#, &["log-format", "%{+Q}o %t %s x"]),
            (r#"a '"$HOST" #\n'"#, &["a", r#""$HOST" #\n"#]),
            (r#"a "it's #1" \# \" \' \\ \x41\x2f"#, &["a", "it's #1", "#", "\"", "'", "\\", "A/"]),
            (r#"a "" ''"#, &["a", "", ""]),
            (r#"a $HOST "$HOST:1" "${HOST}2" "\$HOST""#, &["a", "$HOST", "10.0.0.1:1", "10.0.0.12", "$HOST"]),
            (r#"a "${NONE-127.0.0.1}:514" "${EMPTY-x}" "${NONE}""#, &["a", "127.0.0.1:514", "", ""]),
            (r#"a "${LIST}" "${LIST[*]}""#, &["a", "a b", "a", "b"]),
            (r"a \d+ \", &["a", r"\d+", "\\"]),
            ("", &[]),
        ] {
            assert_eq!(cut(line, &env).expect(line).words, words, "{line}");
        }
        let cut = cut(r#"a "$HOST $NONE ${OTHER-x}""#, &env).expect("words");
        assert_eq!((cut.filled, cut.unset), (vec!["HOST".to_owned()], vec!["NONE".to_owned()]));
    }

    #[test]
    fn addresses_have_variables_outside_of_quotes_too() {
        for (line, words) in [
            ("bind $HOST:5000", &["bind", "10.0.0.1:5000"][..]),
            ("server a ${HOST}:5432 sni $HOST", &["server", "a", "10.0.0.1:5432", "sni", "$HOST"]),
            ("log $HOST:514 local0", &["log", "$HOST:514", "local0"]),
        ] {
            let cut = with_address(cut(line, &env).expect(line), &env).expect(line);
            assert_eq!(cut.words, words, "{line}");
        }
    }

    #[test]
    fn what_haproxy_does_not_cut_is_refused_with_a_reason() {
        for (line, why) in [
            ("a 'b", "never closed"),
            ("a \"b", "never closed"),
            (r"a \xg1", "hexadecimal"),
            (r"a \x00", "not 00"),
            ("a \"$\"", "name of a variable"),
            ("a \"$1\"", "name of a variable"),
            ("a \"${HOST\"", "no closing brace"),
            ("a \"${HOST:-x}\"", "is not a variable"),
            ("a\0b", "NUL"),
        ] {
            let error = cut(line, &env).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
