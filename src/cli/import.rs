//! `import-haproxy`: the configuration to standard output, what became of each line to standard error.

use std::io::Read;
use std::path::Path;

use super::output::{complain, harmless, print};
use super::{EXIT_CONFIG, EXIT_LOSSES, Failure};
use crate::admin::secret;
use crate::config::Config;
use crate::import::{self, Class, Import, Source};

/// Translates the file, or standard input for `-`.
pub fn haproxy(file: &Path) -> Result<(), Failure> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let name = harmless(&name);
    let text = text(file).map_err(|why| Failure::new(EXIT_CONFIG, format!("{name}: {why}")))?;
    let source =
        Source { name: &name, text: &text, env: &|name| std::env::var(name).ok(), hash: &secret::hash };
    let import = import::haproxy(&source).map_err(|slips| {
        let lines: Vec<String> = slips.iter().map(|slip| located(&name, slip.line, &slip.message)).collect();
        Failure::new(EXIT_CONFIG, lines.join("\n"))
    })?;
    for note in &import.notes {
        complain(&located(&name, note.line, &format!("{}: {}", note.class.words(), note.text)));
    }
    if let Some(yaml) = &import.yaml {
        print(yaml)?;
    }
    finish(&name, &import)
}

/// Reads it; bytes that are no UTF-8 stand in comments, as HAProxy does not mind them.
fn text(file: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let most = import::MAX_BYTES as u64 + 1;
    let read = match file == Path::new("-") {
        true => std::io::stdin().take(most).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("cannot be read: {error}"))?;
    match bytes.len() as u64 == most {
        true => {
            Err(format!("is larger than {} MiB; is this HAProxy's configuration?", import::MAX_BYTES >> 20))
        }
        false => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn located(name: &str, line: usize, text: &str) -> String {
    match line {
        0 => format!("{name}: {text}"),
        line => format!("{name}:{line}: {text}"),
    }
}

/// The sum of it; with losses, or with something that `run` would refuse here, the exit code says so.
fn finish(name: &str, import: &Import) -> Result<(), Failure> {
    let count = |class| import.notes.iter().filter(|note| note.class == class).count();
    let (taken, not_needed) = (count(Class::Taken), count(Class::NotNeeded));
    let sum = format!("{name}: {taken} taken over, {not_needed} not needed, {} lost", count(Class::Lost));
    let problems = import.yaml.as_ref().and_then(|yaml| {
        Config::parse("new configuration", yaml, &|variable| std::env::var(variable).ok()).err()
    });
    match problems {
        Some(problems) => {
            let why = "`run` would refuse it here for what is said above of the new configuration";
            Err(Failure::new(EXIT_LOSSES, format!("{problems}\n{sum}; {why}")))
        }
        None if import.is_whole() => {
            complain(&sum);
            Ok(())
        }
        None => Err(Failure::new(EXIT_LOSSES, sum)),
    }
}
