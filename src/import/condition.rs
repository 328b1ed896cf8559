//! Conditions of `.if` (configuration.txt, section 2.4).
//!
//! What only a running HAProxy could tell (its version and what it was built with) is assumed: a recent one, with
//! everything.

/// What a condition comes to.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub holds: bool,
    /// It rests on a version or feature of HAProxy that is not known here.
    pub assumed: bool,
}

/// Parentheses within parentheses; more than anybody writes, so that no file can use up the stack.
const MAX_DEPTH: usize = 32;

/// The outcome of a whole condition; an error says what is wrong with it.
pub fn outcome(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Outcome, String> {
    let mut reader = Reader { rest: text.trim(), assumed: false, depth: 0, env };
    if reader.rest.is_empty() {
        return Ok(Outcome { holds: false, assumed: false });
    }
    let holds = reader.any()?;
    match reader.rest {
        "" => Ok(Outcome { holds, assumed: reader.assumed }),
        rest => Err(format!("the condition goes on with {rest:?}, which is not understood")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    assumed: bool,
    depth: usize,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Reader<'_> {
    /// Alternatives with `||` between.
    fn any(&mut self) -> Result<bool, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("the condition has too many parentheses within each other".into());
        }
        let mut holds = self.all()?;
        while self.eat("||") {
            holds |= self.all()?;
        }
        self.depth -= 1;
        Ok(holds)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut holds = self.one()?;
        while self.eat("&&") {
            holds &= self.one()?;
        }
        Ok(holds)
    }

    fn one(&mut self) -> Result<bool, String> {
        let mut negated = false;
        while self.eat("!") {
            negated = !negated;
        }
        Ok(self.term()? != negated)
    }

    fn term(&mut self) -> Result<bool, String> {
        if self.eat("(") {
            let holds = self.any()?;
            return if self.eat(")") { Ok(holds) } else { Err("the condition lacks a ')'".into()) };
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        if let Ok(number) = name.parse::<u64>() {
            return Ok(number != 0);
        }
        let Some(inside) = rest.strip_prefix('(') else {
            return Err(format!("{name:?} is not a condition"));
        };
        let close = inside.find(')').ok_or("the condition lacks a ')'")?;
        self.rest = inside[close + 1..].trim_start();
        let arguments: Vec<&str> =
            inside[..close].split(',').map(|word| word.trim().trim_matches('"')).collect();
        self.predicate(name, &arguments)
    }

    fn predicate(&mut self, name: &str, arguments: &[&str]) -> Result<bool, String> {
        match (name, arguments) {
            ("defined", [variable]) => Ok((self.env)(variable).is_some()),
            ("streq", [a, b]) => Ok(a == b),
            ("strneq", [a, b]) => Ok(a != b),
            ("strstr", [whole, part]) => Ok(whole.contains(part)),
            ("feature" | "version_atleast" | "openssl_version_atleast" | "enabled", [_]) => {
                self.assumed = true;
                Ok(true)
            }
            ("version_before" | "openssl_version_before" | "awslc_api_before" | "awslc_api_atleast", [_]) => {
                self.assumed = true;
                Ok(false)
            }
            _ => Err(format!("{name}(…) is not a condition that is known here")),
        }
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(after) => {
                self.rest = after.trim_start();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::outcome;

    #[test]
    fn conditions_come_out_as_in_haproxy() {
        let env = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, holds, assumed) in [
            ("", false, false),
            ("0", false, false),
            ("1", true, false),
            ("!0 && 1", true, false),
            ("defined(A) || 0", true, false),
            ("defined(B)", false, false),
            ("0 && 0 || 1", true, false),
            ("0 && (0 || 1)", false, false),
            ("streq(yes,yes) && strneq(a,b)", true, false),
            ("streq(,yes)", false, false),
            ("feature(OPENSSL)", true, true),
            ("version_before(2.4)", false, true),
        ] {
            let found = outcome(text, &env).expect(text);
            assert_eq!((found.holds, found.assumed), (holds, assumed), "{text}");
        }
        for text in ["(1", "1 1", "what", "what(1)", "defined(A", "&&", &"(".repeat(1000)] {
            outcome(text, &env).expect_err(text);
        }
    }
}
