//! Help, completions and manual pages.

use std::io::Write;
use std::process::{Command, Stdio};

use super::child::output;

const COMMANDS: [&str; 15] = [
    "run",
    "check",
    "status",
    "sessions",
    "events",
    "top",
    "drain",
    "maint",
    "ready",
    "close-sessions",
    "reload",
    "upgrade",
    "import-haproxy",
    "completions",
    "man",
];

#[test]
fn every_command_has_help_and_those_that_ask_tell_their_exit_codes() {
    let (_, help, _) = output(&["--help"]);
    for command in COMMANDS {
        assert!(
            help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}: {help}"
        );
        let (code, own, _) = output(&[command, "--help"]);
        assert_eq!(code, 0);
        if own.contains("--admin") {
            for said in ["PILOTFISH_ADMIN", "  69 ", "  77 ", "-o, --output <FORM>"] {
                assert!(own.contains(said), "{command}: {said}: {own}");
            }
        }
    }
}

/// Whether the program at hand accepts the text; `None` when it is not installed.
fn accepted(program: &str, arguments: &[&str], text: &str) -> Option<(bool, String)> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let text = text.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())));
    let output = child.wait_with_output().ok()?;
    writer.join().ok()?;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), told))
}

#[test]
fn shells_parse_their_completions() {
    for (shell, program, arguments) in
        [("bash", "bash", &["-n"][..]), ("zsh", "zsh", &["-n"]), ("fish", "fish", &["--no-execute"])]
    {
        let (code, text, _) = output(&["completions", shell]);
        assert_eq!(code, 0);
        for command in COMMANDS {
            assert!(text.contains(command), "{shell} knows nothing of {command}");
        }
        // bash is on every machine that builds this; the others are asked where they are.
        let accepted = accepted(program, arguments, &text);
        assert!(accepted.is_some() || shell != "bash", "bash is missing");
        if let Some((good, told)) = accepted {
            assert!(good, "{shell}: {told}");
        }
    }
    assert_eq!(output(&["completions", "tcsh"]).0, 2);
}

#[test]
fn manual_pages_render() {
    let (code, page, _) = output(&["man"]);
    assert!(code == 0 && page.starts_with(".ie"), "{page:.80}");
    for said in [".TH pilotfish 1", "Exit codes:", "PILOTFISH_TOKEN", "pilotfish\\-status(1)"] {
        assert!(page.contains(said), "{said}: {page}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(
        output(&["man", "--dir", &folder.path().display().to_string()]),
        (0, String::new(), String::new())
    );
    for command in COMMANDS {
        let file = folder.path().join(format!("pilotfish-{command}.1"));
        let page = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{command}: {error}"));
        let version = env!("CARGO_PKG_VERSION");
        let title = format!(".TH pilotfish-{command} 1 2026-11-27 \"pilotfish {version}\"");
        assert!(page.contains(&title), "{title}: {page:.300}");
        assert_eq!(output(&["man", command]), (0, page.clone(), String::new()), "{command}");
        for (program, arguments) in [("groff", &["-man", "-ww", "-Tutf8"][..]), ("mandoc", &["-Werror"])] {
            if let Some((good, told)) = accepted(program, arguments, &page) {
                assert!(good && !told.contains("warning:"), "{program} {command}: {told}");
            }
        }
    }
    assert_eq!(output(&["man", "walk"]).0, 2);
    let (code, _, errors) = output(&["man", "--dir", "/nonexistent/x"]);
    assert!(
        code == 1 && errors.contains("--dir: no page can be written into /nonexistent/x: No such"),
        "{errors}"
    );
}
