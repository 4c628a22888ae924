//! The responses of a development receiver: keywords, and their rotation.

use std::time::Duration;

use crate::input;

/// One response to a delivery, good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Respond {
    /// This status with a short body.
    Status(u16),
    /// 302 to another path on this receiver.
    Redirect,
    /// 200, after this time.
    Slow(Duration),
    /// 503 with `Retry-After`, in seconds.
    RetryAfter(u64),
    /// Reads the request and never answers.
    Hang,
    /// Reads the request and resets the connection.
    Reset,
    /// One byte per second.
    Drip,
    /// Bytes that are not HTTP.
    Garbage,
}

/// The keywords, for help and errors.
pub(crate) const KEYWORDS: &str = "a status (200, 503), gone (410), redirect, slow:2s, retry-after:30, hang, reset, drip, garbage";

/// Parses one keyword.
pub(crate) fn respond(text: &str) -> Result<Respond, String> {
    let explain = || format!("{text:?} is not an answer; use one of {KEYWORDS}");
    match text.split_once(':') {
        Some(("slow", time)) => return input::duration(time).map(Respond::Slow),
        Some(("retry-after", seconds)) => {
            return seconds
                .parse()
                .map(Respond::RetryAfter)
                .map_err(|_| explain());
        }
        _ => {}
    }
    match text {
        "ok" => Ok(Respond::Status(200)),
        "gone" => Ok(Respond::Status(410)),
        "redirect" => Ok(Respond::Redirect),
        "hang" => Ok(Respond::Hang),
        "reset" => Ok(Respond::Reset),
        "drip" => Ok(Respond::Drip),
        "garbage" => Ok(Respond::Garbage),
        status => match status.parse() {
            Ok(status @ 200..=599) => Ok(Respond::Status(status)),
            _ => Err(explain()),
        },
    }
}

impl Respond {
    /// Returns the keyword as on the command line.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::Redirect => "redirect".to_owned(),
            Self::Slow(time) => format!("slow:{}ms", time.as_millis()),
            Self::RetryAfter(seconds) => format!("retry-after:{seconds}"),
            Self::Hang => "hang".to_owned(),
            Self::Reset => "reset".to_owned(),
            Self::Drip => "drip".to_owned(),
            Self::Garbage => "garbage".to_owned(),
        }
    }
}

/// Returns the response to the n-th request, from 0, in rotation. An empty rotation always gives 200.
pub(crate) fn turn(rotation: &[Respond], request: u64) -> Respond {
    let length = u64::try_from(rotation.len()).unwrap_or(u64::MAX).max(1);
    let index = usize::try_from(request % length).unwrap_or(0);
    rotation.get(index).copied().unwrap_or(Respond::Status(200))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_is_known_and_says_itself_again() {
        for text in [
            "200",
            "503",
            "redirect",
            "slow:2000ms",
            "retry-after:30",
            "hang",
            "reset",
            "drip",
            "garbage",
        ] {
            assert_eq!(respond(text).unwrap().name(), text);
        }
        assert_eq!(respond("gone"), Ok(Respond::Status(410)));
        assert_eq!(
            respond("slow:2s"),
            Ok(Respond::Slow(Duration::from_secs(2)))
        );
    }

    #[test]
    fn an_unknown_keyword_names_those_there_are() {
        for bad in [
            "",
            "fine",
            "99",
            "600",
            "slow",
            "slow:x",
            "retry-after:soon",
            "-1",
        ] {
            assert!(respond(bad).is_err(), "{bad}");
        }
        assert!(respond("fine").unwrap_err().contains("retry-after:30"));
    }

    #[test]
    fn answers_go_round() {
        let rotation = [Respond::Status(200), Respond::Hang];
        let turns: Vec<Respond> = (0..4).map(|request| turn(&rotation, request)).collect();
        assert_eq!(
            turns,
            [
                Respond::Status(200),
                Respond::Hang,
                Respond::Status(200),
                Respond::Hang
            ]
        );
        assert_eq!(turn(&[], 7), Respond::Status(200));
    }
}
