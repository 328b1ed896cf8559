//! The commands of the runtime socket, and what is said of one that is none.
//! (Source: management.txt of HAProxy, 9.3, and the answers of HAProxy 2.6.)

use super::super::Sources;
use super::order::{self, Order};
use super::show;

/// What somebody at the socket may do. Each level may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Sees statistics.
    User,
    /// Sees sessions too, and forgets maxima.
    Operator,
    /// Changes states and ends sessions.
    Admin,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::User => "user",
            Level::Operator => "operator",
            Level::Admin => "admin",
        }
    }
}

/// Who asks, and where.
#[derive(Debug, Clone, Copy)]
pub struct Desk<'a> {
    pub sources: &'a Sources,
    pub level: Level,
    /// The most that this socket allows.
    pub highest: Level,
    pub path: &'a str,
}

/// What comes of a command.
#[derive(Debug)]
pub enum Reply {
    /// The answer, with an end to each line; nothing when all went well and there is no more to say.
    Text(String),
    /// To be carried out.
    Order(Order),
    /// From now on more lines are read, or no more.
    Prompt,
    Lower(Level),
    /// How many seconds the next line may take.
    Patience(u64),
    Quit,
}

use Level::{Admin, Operator, User};

type Run = fn(Desk<'_>, &[String]) -> Reply;

/// A command by its first words.
struct Command {
    words: &'static [&'static str],
    usage: &'static str,
    does: &'static str,
    level: Level,
    run: Run,
}

const fn command(
    words: &'static [&'static str],
    usage: &'static str,
    does: &'static str,
    level: Level,
    run: Run,
) -> Command {
    Command { words, usage, does, level, run }
}

/// In the order in which they are listed.
const COMMANDS: &[Command] = &[
    command(
        &["clear", "counters"],
        "clear counters [all]",
        "clear max statistics counters (or all counters)",
        Operator,
        order::clear_counters,
    ),
    command(&["disable", "agent"], "disable agent", "there are no agent checks", Admin, order::disable_agent),
    command(
        &["disable", "health"],
        "disable health",
        "checks cannot be switched off",
        Admin,
        order::no_health,
    ),
    command(
        &["disable", "server"],
        "disable server <bk>/<srv>",
        "put a member into maintenance",
        Admin,
        order::disable_server,
    ),
    command(&["enable", "agent"], "enable agent", "there are no agent checks", Admin, order::no_agent),
    command(&["enable", "health"], "enable health", "checks are always on", Admin, order::enable_health),
    command(
        &["enable", "server"],
        "enable server <bk>/<srv>",
        "put a member back into service",
        Admin,
        order::enable_server,
    ),
    command(
        &["get", "weight"],
        "get weight <bk>/<srv>",
        "report a member's current weight",
        User,
        show::weight,
    ),
    command(
        &["operator"],
        "operator",
        "lower the level of the current CLI session to operator",
        Operator,
        |_, _| Reply::Lower(Operator),
    ),
    command(
        &["set", "maxconn", "frontend"],
        "set maxconn frontend <frontend> <value>",
        "change a pool's limit of sessions",
        Admin,
        order::maxconn_frontend,
    ),
    command(
        &["set", "maxconn", "global"],
        "set maxconn global <value>",
        "not while pilotfish runs",
        Admin,
        order::maxconn_global,
    ),
    command(
        &["set", "maxconn", "server"],
        "set maxconn server <bk>/<srv>",
        "change a member's limit of sessions",
        Admin,
        order::maxconn_server,
    ),
    command(
        &["set", "server"],
        "set server <bk>/<srv> [opts]",
        "change a member's state",
        Admin,
        order::set_server,
    ),
    command(
        &["set", "timeout"],
        "set timeout [cli] <delay>",
        "change how long this session waits for a command",
        User,
        order::set_timeout,
    ),
    command(
        &["set", "weight"],
        "set weight <bk>/<srv>",
        "change a member's weight",
        Admin,
        order::set_weight,
    ),
    command(
        &["show", "backend"],
        "show backend",
        "list backends in the current running config",
        User,
        show::backend,
    ),
    command(
        &["show", "cli", "level"],
        "show cli level",
        "display the level of the current CLI session",
        User,
        show::cli_level,
    ),
    command(
        &["show", "cli", "sockets"],
        "show cli sockets",
        "dump list of cli sockets",
        User,
        show::cli_sockets,
    ),
    command(&["show", "env"], "show env [var]", "the environment is not shown", Operator, show::env),
    command(
        &["show", "errors"],
        "show errors",
        "report last protocol errors: none are kept",
        Operator,
        show::errors,
    ),
    command(
        &["show", "info"],
        "show info [json|typed]*",
        "report information about the running process",
        User,
        show::info,
    ),
    command(&["show", "pools"], "show pools", "there are no memory pools", User, show::pools),
    command(
        &["show", "resolvers"],
        "show resolvers [id]",
        "there are no resolvers sections",
        User,
        show::resolvers,
    ),
    command(
        &["show", "servers", "conn"],
        "show servers conn [<backend>]",
        "dump server connections status (all or for a single backend)",
        User,
        show::servers_conn,
    ),
    command(
        &["show", "servers", "state"],
        "show servers state [<backend>]",
        "dump volatile server information (all or for a single backend)",
        User,
        show::servers_state,
    ),
    command(
        &["show", "sess"],
        "show sess [id]",
        "report the list of current sessions or this exact session",
        Operator,
        show::sess,
    ),
    command(
        &["show", "stat"],
        "show stat [json|no-maint|typed|up]*",
        "report counters for each proxy and server",
        User,
        show::stat,
    ),
    command(&["show", "table"], "show table <table>", "there are no stick tables", User, show::table),
    command(&["show", "version"], "show version", "show version of the current process", User, show::version),
    command(
        &["shutdown", "session"],
        "shutdown session [id]",
        "kill a specific session",
        Admin,
        order::shutdown_session,
    ),
    command(
        &["shutdown", "sessions", "server"],
        "shutdown sessions server <bk>/<srv>",
        "kill sessions on a server",
        Admin,
        order::shutdown_sessions,
    ),
    command(&["user"], "user", "lower the level of the current CLI session to user", User, |_, _| {
        Reply::Lower(User)
    }),
];

/// Listed at the end of each list.
const ALWAYS: &[Command] = &[
    command(&["help"], "help [<command>]", "list matching or all commands", User, |_, words| {
        Reply::Text(help(words))
    }),
    command(&["prompt"], "prompt", "toggle interactive mode with prompt", User, |_, _| Reply::Prompt),
    command(&["quit"], "quit", "disconnect", User, |_, _| Reply::Quit),
];

/// What comes of these words.
pub fn run(desk: Desk<'_>, words: &[String]) -> Reply {
    let begins = |command: &&Command| matched(command, words) == command.words.len();
    let found = COMMANDS.iter().chain(ALWAYS).filter(begins).max_by_key(|command| command.words.len());
    match found {
        None => Reply::Text(unknown(words)),
        Some(command) if command.level > desk.level => Reply::Text("Permission denied\n".to_owned()),
        Some(command) => (command.run)(desk, &words[command.words.len()..]),
    }
}

/// How many of the command's words these begin with.
fn matched(command: &Command, words: &[String]) -> usize {
    command.words.iter().zip(words).take_while(|(known, word)| *known == word).count()
}

fn unknown(words: &[String]) -> String {
    if words.is_empty() {
        return list("Unknown command. Please enter one of the following commands only:", COMMANDS.iter());
    }
    let heading = "Unknown command, but maybe one of the following ones is a better match:";
    list(heading, like(words).into_iter())
}

fn help(words: &[String]) -> String {
    let heading = "The following commands are valid at this level:";
    match words {
        [] => list(heading, COMMANDS.iter()),
        words => list(heading, like(words).into_iter()),
    }
}

/// Commands that a word more or a letter less was missing from.
fn like(words: &[String]) -> Vec<&'static Command> {
    let most = COMMANDS.iter().map(|command| matched(command, words)).max().unwrap_or(0);
    if most > 0 {
        return COMMANDS.iter().filter(|command| matched(command, words) == most).collect();
    }
    let typed = words.join(" ");
    let mut ranked: Vec<(usize, &Command)> =
        COMMANDS.iter().map(|command| (shared_pairs(&typed, command.usage), command)).collect();
    ranked.sort_by_key(|(pairs, _)| std::cmp::Reverse(*pairs));
    ranked.into_iter().take(MOST_LIKE).map(|(_, command)| command).collect()
}

/// Of commands that only look alike.
const MOST_LIKE: usize = 5;

/// Pairs of neighbouring letters that both have.
fn shared_pairs(one: &str, other: &str) -> usize {
    one.as_bytes().windows(2).filter(|pair| other.as_bytes().windows(2).any(|theirs| theirs == *pair)).count()
}

fn list<'a>(heading: &str, commands: impl Iterator<Item = &'a Command>) -> String {
    let line = |command: &Command| format!("  {:<40}: {}\n", command.usage, command.does);
    let lines: String = commands.chain(ALWAYS).map(line).collect();
    format!("{heading}\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_are_listed_in_their_order_and_found_by_their_own_words() {
        assert!(COMMANDS.is_sorted_by_key(|command| command.words));
        for command in COMMANDS {
            assert!(command.usage.starts_with(&command.words.join(" ")), "{}", command.usage);
            assert!(command.usage.len() <= 40, "{}", command.usage);
        }
    }

    #[test]
    fn an_unknown_command_gets_those_that_begin_alike_or_look_alike() {
        let answer = unknown(&words("show servers"));
        let lines: Vec<&str> = answer.lines().collect();
        assert_eq!(lines[0], "Unknown command, but maybe one of the following ones is a better match:");
        assert_eq!(lines.len(), 6, "{answer}");
        assert!(lines[1].starts_with("  show servers conn [<backend>]           : dump"), "{answer}");
        assert_eq!(lines[5], "  quit                                    : disconnect");
        assert!(unknown(&words("shwo stat")).contains("show stat"));
        assert!(
            unknown(&[]).starts_with("Unknown command. Please enter one of the following commands only:\n")
        );
        assert_eq!(help(&words("set maxconn")).lines().count(), 7);
    }
}
