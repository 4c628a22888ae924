//! `stormhook man`: the manual, one page per command, generated from the command tree.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::Cli;
use crate::failure::Failure;
use crate::terminal::Screen;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stormhook man | man -l -
  stormhook man endpoint add | man -l -
  stormhook man --out ~/.local/share/man/man1";

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command, such as endpoint add [default: the page that lists all commands]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write the pages of all commands to this directory
    #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs, screen: &Screen) -> Result<(), Failure> {
    let mut top = Cli::command().disable_help_subcommand(true);
    top.build();
    let unwritten = |error| Failure::local("write the manual", &error);
    let Some(folder) = &args.out else {
        return screen.raw(&page(find(&top, &args.command)?).map_err(unwritten)?);
    };
    let pages = pages(&top).map_err(unwritten)?;
    std::fs::create_dir_all(folder)
        .and_then(|()| {
            pages
                .iter()
                .try_for_each(|(name, page)| std::fs::write(folder.join(name), page))
        })
        .map_err(|error| {
            let what = format!("write the manual to {}", folder.display());
            Failure::local(&what, &error)
        })?;
    screen.line(&format!(
        "Wrote {} pages to {}",
        pages.len(),
        folder.display()
    ))
}

/// Returns the command that these words name.
fn find<'c>(top: &'c Command, words: &[String]) -> Result<&'c Command, Failure> {
    words.iter().try_fold(top, |command, word| {
        command.find_subcommand(word).ok_or_else(|| {
            let mut known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            known.sort_unstable();
            let name = command.get_bin_name().unwrap_or("stormhook");
            Failure::Usage(if known.is_empty() {
                format!("`{name}` has no subcommands")
            } else {
                format!(
                    "`{name}` has no command {word:?}; it has {}",
                    known.join(", ")
                )
            })
        })
    })
}

/// Returns every page with its file name, the top one first.
fn pages(command: &Command) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![(Man::new(command.clone()).get_filename(), page(command)?)];
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        all.extend(pages(sub)?);
    }
    Ok(all)
}

/// Returns one page in roff.
fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .source(concat!("stormhook ", env!("CARGO_PKG_VERSION")))
        .manual("stormhook");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(command).to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    if let Some(text) = command.get_after_help().map(ToString::to_string) {
        let heads = ["Examples:\n", "Example:\n"];
        let text = heads
            .iter()
            .find_map(|head| text.strip_prefix(head))
            .unwrap_or(&text);
        verbatim("EXAMPLES", text).to_writer(&mut out)?;
    }
    see_also(command).to_writer(&mut out)?;
    Ok(out)
}

/// Returns the usage as in `--help`.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
    let name = command.get_bin_name().unwrap_or_default();
    let rest = usage.strip_prefix(name).unwrap_or(usage);
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([bold(name), roman(rest)]);
    roff
}

/// Returns text that keeps its line breaks.
fn verbatim(heading: &str, text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff
}

/// Returns the pages above this one; on the top page, how to get the others.
fn see_also(command: &Command) -> Roff {
    let words: Vec<&str> = command
        .get_bin_name()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let above: Vec<String> = (1..words.len())
        .filter_map(|count| words.get(..count))
        .map(|words| format!("{}(1)", words.join("-")))
        .collect();
    if above.is_empty() {
        roff.text([
            roman("Each command has its own page: "),
            bold("stormhook man"),
            roman(" COMMAND prints it, "),
            bold("stormhook man --out"),
            roman(" FOLDER writes them all."),
        ]);
    } else {
        roff.text([roman(above.join(", "))]);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top() -> Command {
        let mut top = Cli::command().disable_help_subcommand(true);
        top.build();
        top
    }

    fn text(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let page = page(find(&top(), &words).unwrap()).unwrap();
        String::from_utf8(page).unwrap().replace("\\-", "-")
    }

    #[test]
    fn the_page_of_a_command_is_that_command_s() {
        let page = text(&["endpoint", "add"]);
        assert!(
            page.contains("stormhook-endpoint-add - Create an endpoint"),
            "{page}"
        );
        assert!(
            page.contains("\\fBstormhook endpoint add\\fR [OPTIONS] --organization <ORGANIZATION> --url <URL> --event-type <TYPE>..."),
            "{page}"
        );
        assert!(
            page.contains("SEE ALSO\"\nstormhook(1), stormhook-endpoint(1)"),
            "{page}"
        );
        assert_eq!(text(&["endpoints", "add"]), page);
    }

    #[test]
    fn the_top_page_refers_to_the_others() {
        let page = text(&[]);
        for name in [
            "stormhook-serve(1)",
            "stormhook-endpoint(1)",
            "stormhook man",
        ] {
            assert!(page.contains(name), "{name}");
        }
    }

    #[test]
    fn every_command_has_a_page_and_a_hyphen_in_its_name_parts_none() {
        let pages = pages(&top()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert!(
            names.contains(&"stormhook.1") && names.contains(&"stormhook-endpoint-rotate-secret.1")
        );
        let page = text(&["endpoint", "rotate-secret"]);
        assert!(
            page.ends_with("\nstormhook(1), stormhook-endpoint(1)\n"),
            "{page}"
        );
    }

    #[test]
    fn an_unknown_command_names_those_there_are() {
        let words = ["endpoint".to_owned(), "ad".to_owned()];
        let failure = find(&top(), &words).unwrap_err();
        assert_eq!(failure.status(), 2);
        assert!(failure.to_string().contains("add, disable"), "{failure}");
    }
}
