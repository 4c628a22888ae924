//! The command tree as people meet it: the derived one, with the global options only where they do something.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, value_parser};

use super::Cli;

/// The heading of what may stand before or after the command.
pub(crate) const GLOBAL: &str = "Global options";

/// Commands that print nothing that the API says, or that is made for programs.
const WITHOUT_JSON: [&str; 5] = ["serve", "demo", "export", "completions", "man"];
/// Commands that ask no daemon.
const WITHOUT_SOCKET: [&str; 6] = ["demo", "listen", "verify", "compact", "completions", "man"];
/// Commands whose JSON is not the API's.
const OWN_JSON: [(&str, &str); 5] = [
    ("config", "Print JSON"),
    ("backup", "Print JSON"),
    ("compact", "Print JSON"),
    ("verify", "Print JSON"),
    ("listen", "Print one line of JSON for each delivery"),
];
/// Commands for which the socket is the daemon's own to listen on.
const OWN_SOCKET: [&str; 2] = ["serve", "config"];

/// The tree. An argument that a command has itself takes the place of the global one.
pub(crate) fn command() -> Command {
    let json = || {
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help_heading(GLOBAL)
    };
    let socket = || {
        Arg::new("socket")
            .long("socket")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
    };
    let mut command = Cli::command();
    for name in WITHOUT_JSON {
        command = command.mut_subcommand(name, |sub| sub.arg(json().hide(true)));
    }
    for name in WITHOUT_SOCKET {
        command = command.mut_subcommand(name, |sub| sub.arg(socket().hide(true)));
    }
    for (name, help) in OWN_JSON {
        command = command.mut_subcommand(name, |sub| sub.arg(json().help(help)));
    }
    for name in OWN_SOCKET {
        command = command.mut_subcommand(name, |sub| {
            sub.arg(socket().help("The Unix socket to listen on, or off"))
        });
    }
    command
}

/// Reads the arguments; a global option where it does nothing is an error, not a silence.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    let Some((name, of_command)) = matches.subcommand() else {
        return Ok(matches);
    };
    let without_effect = [
        ("json", WITHOUT_JSON.contains(&name)),
        ("socket", WITHOUT_SOCKET.contains(&name)),
    ];
    for (option, is_refused) in without_effect {
        let is_given =
            of_command.value_source(option) == Some(clap::parser::ValueSource::CommandLine);
        if is_refused && is_given {
            let text = format!("'--{option}' does nothing for `stormhook {name}`: leave it out");
            let of_command = command.find_subcommand_mut(name);
            return Err(match of_command {
                Some(sub) => sub.error(ErrorKind::UnknownArgument, text),
                None => command.error(ErrorKind::UnknownArgument, text),
            });
        }
    }
    Ok(matches)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_consistent() {
        super::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn visit(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
            for sub in command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
            {
                let path = format!("{path} {}", sub.get_name());
                if !sub
                    .get_after_help()
                    .is_some_and(|text| text.to_string().contains("Example"))
                {
                    missing.push(path.clone());
                }
                visit(sub, &path, missing);
            }
        }
        let mut missing = Vec::new();
        visit(&super::command(), "stormhook", &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn a_secret_is_no_argument_anywhere() {
        fn visit(command: &clap::Command, found: &mut Vec<String>) {
            for arg in command.get_arguments() {
                if arg.get_long() == Some("secret") && arg.get_action().takes_values() {
                    found.push(command.get_name().to_owned());
                }
            }
            command.get_subcommands().for_each(|sub| visit(sub, found));
        }
        let mut found = Vec::new();
        visit(&super::command(), &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn verify_alone_reads_a_secret_from_the_environment() {
        fn visit(command: &mut clap::Command, found: &mut Vec<String>) {
            let name = command.get_name().to_owned();
            if !command.has_subcommands()
                && command
                    .render_long_help()
                    .to_string()
                    .contains("STORMHOOK_SECRET")
            {
                found.push(name);
            }
            command
                .get_subcommands_mut()
                .for_each(|sub| visit(sub, found));
        }
        let mut command = super::command();
        command.build();
        let mut found = Vec::new();
        visit(&mut command, &mut found);
        assert_eq!(found, ["verify"]);
    }

    #[test]
    fn global_options_are_refused_where_they_do_nothing() {
        let parse = |line: &str| super::parse(line.split_whitespace().map(Into::into));
        for line in [
            "stormhook --json demo",
            "stormhook demo --json --once",
            "stormhook serve --json",
            "stormhook man --json",
            "stormhook --socket /s listen",
            "stormhook verify --socket /s",
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains("leave it out"), "{line}");
        }
        for line in [
            "stormhook --json --socket /s stats",
            "stormhook listen --json",
            "stormhook --socket /s serve",
            "stormhook demo --once",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn global_options_stand_apart_and_only_where_they_do_something() {
        let help = |path: &str| {
            let mut command = super::command();
            command.build();
            let mut at = &mut command;
            for name in path.split_whitespace() {
                at = at.find_subcommand_mut(name).unwrap();
            }
            at.render_long_help().to_string()
        };
        for path in ["", "endpoint", "endpoint add", "tail", "check"] {
            let text = help(path);
            let (own, global) = text.split_once("Global options:").unwrap();
            assert!(
                !own.contains("--json") && !own.contains("--socket <"),
                "{path}"
            );
            assert!(
                global.contains("--json") && global.contains("--socket"),
                "{path}"
            );
        }
        for path in ["demo", "completions", "man"] {
            assert!(
                !help(path).contains("--json") && !help(path).contains("--socket"),
                "{path}"
            );
        }
        assert!(help("serve").contains("to listen on") && !help("serve").contains("--json"));
        assert!(!help("serve").contains("--until-stdin-ends"));
    }

    #[test]
    fn examples_fit_a_terminal_of_80_columns() {
        fn visit(command: &clap::Command, wide: &mut Vec<String>) {
            let text = command.get_after_help().map(ToString::to_string);
            let lines = text.iter().flat_map(|text| text.lines());
            wide.extend(
                lines
                    .filter(|line| line.chars().count() > 80)
                    .map(str::to_owned),
            );
            command.get_subcommands().for_each(|sub| visit(sub, wide));
        }
        let mut wide = Vec::new();
        visit(&super::command(), &mut wide);
        assert_eq!(wide, Vec::<String>::new());
    }
}
