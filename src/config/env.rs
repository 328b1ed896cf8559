//! `${VAR}` and `${VAR:-default}` in values, from the environment.
//!
//! Filled in after YAML was parsed, so what a variable holds is never read as YAML, and a comment or a key is left
//! alone. `${VAR:-default}` takes the default for a variable that is unset or empty, as a shell does; the default
//! ends at the next `}`. `$${` stands for `${` itself. A value that comes out empty counts as left out, so
//! `${VAR:-}` lets a variable override a default.

use super::raw::{Raw, Value};

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Fills in every text below `raw`. What cannot be filled in becomes unusable, with the reason.
pub fn expand(raw: &mut Raw, env: Environment<'_>) {
    match &mut raw.value {
        Value::List(items) => items.iter_mut().for_each(|item| expand(item, env)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_key, value)| expand(value, env)),
        Value::Text(written) if written.contains("${") => {
            raw.value = match filled(written, env) {
                Ok(text) if text.is_empty() => Value::Empty,
                Ok(text) => Value::Filled { text, written: std::mem::take(written) },
                Err(why) => Value::Unusable(why),
            }
        }
        _ => {}
    }
}

fn filled(written: &str, env: Environment<'_>) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = written;
    while let Some(dollar) = rest.find('$') {
        text.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            text.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let end = after
                .find('}')
                .ok_or_else(|| format!("{written:?} has ${{ without }}; for a literal ${{ write $${{"))?;
            text.push_str(&variable(&after[..end], env)?);
            rest = &after[end + 1..];
        } else {
            text.push('$');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    Ok(text)
}

/// What the inside of `${...}` stands for.
fn variable(inside: &str, env: Environment<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!(
            "{:?} is not a variable; write ${{NAME}} or ${{NAME:-default}}",
            format!("${{{inside}}}")
        ));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.into()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.into()),
        (None, None) => {
            Err(format!("the environment variable {name} is not set; set it, or write ${{{name}:-default}}"))
        }
    }
}
