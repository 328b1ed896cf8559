//! What the YAML parser says, in words that say what to do.

/// `error` is the parser's own line; the place in it is shown elsewhere.
pub fn explain(text: &str, place: Option<(usize, usize)>, error: &str) -> String {
    let (line, column) = place.unwrap_or((1, 1));
    let line_text = text.lines().nth(line - 1).unwrap_or("");
    let at = line_text.chars().nth(column - 1);
    let reason = without_place(error);
    let hint = if error.contains("recursion limit") {
        "lists and maps are nested too deeply; no key needs more than six levels"
    } else if error.contains("cannot start any token") && at == Some('\t') {
        "YAML is indented with spaces, never with tabs"
    } else if error.contains("cannot start any token") {
        "put the value in quotes"
    } else if error.contains("anchor") || error.contains("alias") {
        "a value that begins with * or & needs quotes"
    } else if line_text.contains("${") {
        "inside [ ] and { } a ${VAR} needs quotes"
    } else if line_text.contains("[:") || line_text.contains("]:") {
        "an IPv6 address in brackets needs quotes"
    } else if error.contains("mapping values are not allowed") || error.contains("expected key") {
        "check the indentation, and that text with `: ` in it is in quotes"
    } else if error.contains("control characters") {
        "remove them; a configuration is plain text"
    } else {
        "check the indentation, the quotes and the brackets here and in the line above"
    };
    format!("not YAML: {reason}; {hint}")
}

/// Cuts the first ` at line 3 column 5` or ` at position 7`, which repeats the place of the problem itself.
fn without_place(error: &str) -> String {
    let Some(start) = error.find(" at line ").or_else(|| error.find(" at position ")) else {
        return error.into();
    };
    let rest = &error[start..];
    let end = rest.find(',').unwrap_or(rest.len());
    format!("{}{}", &error[..start], &rest[end..])
}
