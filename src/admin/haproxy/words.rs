//! One line of the runtime socket: commands with semicolons between, each of words with blanks between. A backslash
//! takes the meaning from what follows it. (Source: management.txt of HAProxy, 9.3.)

/// The commands of a line, each as its words; one without words is there too.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ';' => {
                words.extend(word.take());
                all.push(std::mem::take(&mut words));
            }
            c if c.is_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(letters.next()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    // A semicolon at the end begins no command.
    if all.is_empty() || !words.is_empty() {
        all.push(words);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn lines_fall_into_commands_and_words() {
        for (line, expected) in [
            ("show  version ", "show|version"),
            ("show version; show\tbackend", "show|version / show|backend"),
            ("show version;", "show|version"),
            ("a;;b", "a /  / b"),
            ("", ""),
            (r"set server a\ b/c\;d state drain", "set|server|a b/c;d|state|drain"),
            (r"end\\ \", r"end\"),
        ] {
            let told: Vec<String> = commands(line).iter().map(|words| words.join("|")).collect();
            assert_eq!(told.join(" / ").trim_end_matches('|'), expected, "{line}");
        }
    }
}
