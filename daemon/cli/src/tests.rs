//! The whole command tree: what it accepts, and what its help shows.

use clap::{CommandFactory, Parser};

use crate::{Cli, Command, endpoint};

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

fn help(path: &str) -> String {
    let mut command = Cli::command();
    command.build();
    let mut at = &mut command;
    for name in path.split_whitespace() {
        at = at.find_subcommand_mut(name).unwrap();
    }
    at.render_long_help().to_string()
}

#[test]
fn client_options_follow_the_command_or_its_subcommand() {
    for line in [
        "stormhook delivery list --json --socket /tmp/s",
        "stormhook delivery --json --socket /tmp/s list",
        "stormhook deliveries --json list --socket /tmp/s",
    ] {
        let Command::Delivery { client, .. } = parse(line).unwrap().command else {
            panic!("{line}")
        };
        assert!(client.json, "{line}");
        assert_eq!(
            client.daemon.socket.as_deref(),
            Some(std::path::Path::new("/tmp/s")),
            "{line}"
        );
    }
}

#[test]
fn a_command_has_the_shared_options_that_have_an_effect_on_it() {
    let with_both = "endpoint,endpoint add,event send,delivery,tail,stats,check,backup,config";
    let with_json = "verify,compact,listen";
    let with_socket = "serve,export";
    let with_none = "demo,completions,man";
    for (commands, json, socket) in [
        (with_both, true, true),
        (with_json, true, false),
        (with_socket, false, true),
        (with_none, false, false),
    ] {
        for command in commands.split(',') {
            let text = help(command);
            assert_eq!(text.contains("--json"), json, "{command}");
            assert_eq!(text.contains("--socket"), socket, "{command}");
        }
    }
    for line in [
        "stormhook demo --json",
        "stormhook serve --json",
        "stormhook man --json",
        "stormhook listen --socket /s",
        "stormhook verify --socket /s",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn client_options_stand_after_those_of_the_command() {
    for path in ["endpoint", "endpoint add", "tail", "check"] {
        let text = help(path);
        let (own, client) = text.split_once("Client options:").unwrap();
        assert!(
            !own.contains("--json") && !own.contains("--socket"),
            "{path}"
        );
        assert!(
            client.contains("--json") && client.contains("--socket"),
            "{path}"
        );
    }
    assert!(help("serve").contains("to listen on"));
    assert!(!help("serve").contains("--until-stdin-ends"));
}

#[test]
fn event_types_are_given_together_or_one_by_one() {
    for types in [
        "--event-type a.b c.*",
        "--event-type a.b --event-type c.*",
        "--event-type a.b,c.*",
    ] {
        let cli = parse(&format!(
            "stormhook endpoint add --organization o --url https://x.example/ {types}"
        ))
        .unwrap();
        let Command::Endpoint {
            command: endpoint::EndpointCommand::Add(args),
            ..
        } = cli.command
        else {
            panic!("{types}")
        };
        assert_eq!(args.event_types, ["a.b", "c.*"], "{types}");
    }
}

#[test]
fn an_id_that_could_change_the_path_is_a_usage_error() {
    for line in [
        "stormhook event show evt_1/../x",
        "stormhook delivery show dlv_1?x=1",
        "stormhook endpoint show %2e",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn the_command_tree_is_consistent() {
    Cli::command().debug_assert();
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
    visit(&Cli::command(), "stormhook", &mut missing);
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
    visit(&Cli::command(), &mut found);
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
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    visit(&mut command, &mut found);
    assert_eq!(found, ["verify"]);
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
    visit(&Cli::command(), &mut wide);
    assert_eq!(wide, Vec::<String>::new());
}
