//! Reads `store.url`. What it says about TLS is read here and taken out; the driver reads the rest.

use crate::tls::Tls;
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Returns how to connect.
///
/// # Errors
/// What is wrong with the URL, and what to do.
pub(crate) fn read(url: &str) -> Result<(Config, Tls), String> {
    let mut tls = Tls::default();
    let rest = match Parts::of(url) {
        Some(parts) => parts.without_tls(&mut tls)?,
        None => without_tls(url, &mut tls)?,
    };
    let mut config: Config = rest.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error);
        cause.map_or_else(|| error.to_string(), ToString::to_string)
    })?;
    // A server without a name is known by its address, in its certificate too.
    if config.get_hosts().is_empty() {
        for address in config.get_hostaddrs().to_vec() {
            config.host(address.to_string());
        }
    }
    let hosts = config.get_hosts();
    // The protocol has no TLS on Unix sockets.
    let is_local = !hosts.is_empty() && hosts.iter().all(|host| matches!(host, Host::Unix(_)));
    let tls = tls.checked(is_local)?;
    config.ssl_mode(tls.driver_mode());
    Ok((config, tls))
}

/// Returns the files that a URL names. Those that a connection needs are read for each one. One that can't be read names none.
pub fn files(url: &str) -> Vec<PathBuf> {
    read(url).map_or_else(|_| Vec::new(), |(_, tls)| tls.files())
}

/// A URL, split before its parameters.
struct Parts<'a> {
    before: &'a str,
    parameters: &'a str,
}

impl<'a> Parts<'a> {
    /// Returns the parts; `None` if it is no URL.
    fn of(url: &'a str) -> Option<Self> {
        let schemes = ["postgres://", "postgresql://"];
        let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme))?;
        // A password may contain a question mark.
        let host = rest.split_once('@').map_or(rest, |(_, host)| host);
        let parameters = host
            .split_once('?')
            .map_or("", |(_, parameters)| parameters);
        let before = url.strip_suffix(parameters).unwrap_or(url);
        Some(Self { before, parameters })
    }

    /// Returns the URL without the parameters that are about TLS.
    fn without_tls(&self, tls: &mut Tls) -> Result<String, String> {
        let mut kept = Vec::new();
        for parameter in self.parameters.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| format!("the value of {name} is not UTF-8"))?;
            if !tls.set(name, &value)? {
                kept.push(parameter);
            }
        }
        Ok(format!("{}{}", self.before, kept.join("&")))
    }
}

/// Returns the key words without those that are about TLS.
fn without_tls(words: &str, tls: &mut Tls) -> Result<String, String> {
    let mut kept = String::new();
    let mut rest = words.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').unwrap_or((rest, ""));
        let (value, after) = read_value(after.trim_start());
        if !tls.set(name.trim_end(), &value)? {
            let text = rest.strip_suffix(after).unwrap_or(rest);
            kept.push_str(text);
            kept.push(' ');
        }
        rest = after.trim_start();
    }
    Ok(kept)
}

/// Reads the value of a key word, in quotes or up to a space. A backslash takes the next character as it is. Returns what
/// follows too.
fn read_value(text: &str) -> (String, &str) {
    let quoted = text.strip_prefix('\'');
    let mut value = String::new();
    let mut characters = quoted.unwrap_or(text).chars();
    loop {
        let before = characters.as_str();
        match characters.next() {
            None => return (value, ""),
            Some('\'') if quoted.is_some() => return (value, characters.as_str()),
            Some(space) if quoted.is_none() && space.is_whitespace() => return (value, before),
            Some('\\') => value.extend(characters.next()),
            Some(other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't continue fails")]

    use super::*;
    use crate::tls::Mode;
    use tokio_postgres::config::SslMode;

    #[test]
    fn both_forms_say_the_same() {
        let forms = [
            "postgres://u%40:p?w@db.test:5433/d?sslmode=verify-full&application_name=a%20b&sslrootcert=%2Fca%20s%26.pem",
            r"user=u@ password = 'p?w' host=db.test  sslmode=verify-full port=5433 dbname=d application_name='a b' sslrootcert='/ca s&.pem'",
            r"sslrootcert=/ca\ s&.pem host=db.test port=5433 user=u@ password=p?w dbname=d application_name=a\ b sslmode='verify-full'",
        ];
        for form in forms {
            let (config, tls) = read(form).unwrap();
            assert_eq!(config.get_password(), Some(&b"p?w"[..]), "{form}");
            assert_eq!(config.get_hosts(), [Host::Tcp("db.test".to_owned())]);
            assert_eq!(config.get_ports(), [5433]);
            assert_eq!(config.get_dbname(), Some("d"));
            assert_eq!(config.get_application_name(), Some("a b"));
            assert_eq!(config.get_ssl_mode(), SslMode::Require);
            assert_eq!(tls.mode(), Mode::VerifyFull);
            assert_eq!(tls.roots(), Some("/ca s&.pem"));
        }
    }

    #[test]
    fn the_files_of_a_url_are_known() {
        let files = |parameters: &str| files(&format!("postgres://u@h/d?{parameters}"));
        assert_eq!(
            files("sslmode=verify-full&sslrootcert=/ca.pem&sslcert=/c.pem&sslkey=k.pem"),
            ["/ca.pem", "/c.pem", "k.pem"].map(PathBuf::from)
        );
        assert_eq!(files("sslrootcert=system"), [""; 0].map(PathBuf::from));
        assert_eq!(files("sslmode=nonsense"), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_mode_follows_from_what_is_given() {
        let mode = |parameters: &str| {
            let (_, tls) = read(&format!("postgres://u@h/d?{parameters}")).unwrap();
            tls.mode()
        };
        assert_eq!(mode(""), Mode::Prefer);
        assert_eq!(mode("sslmode=disable"), Mode::Disable);
        assert_eq!(mode("sslmode=require"), Mode::Require);
        assert_eq!(mode("sslrootcert=system"), Mode::VerifyFull);
        // As libpq: who names an authority wants it checked.
        assert_eq!(mode("sslmode=require&sslrootcert=/ca.pem"), Mode::VerifyCa);
        let (config, tls) =
            read("postgres://u@/d?host=/run/postgresql&sslmode=verify-full").unwrap();
        assert_eq!(tls.mode(), Mode::Disable);
        assert_eq!(config.get_ssl_mode(), SslMode::Disable);
        let (config, _) = read("hostaddr=192.0.2.1 user=u").unwrap();
        assert_eq!(config.get_hosts(), [Host::Tcp("192.0.2.1".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do_and_without_the_password() {
        let wrong = [
            (
                "sslmode=allow",
                "sslmode=allow is not supported: use disable, prefer, require, verify-ca or verify-full",
            ),
            (
                "sslmode=prefer&sslrootcert=/ca.pem",
                "sslrootcert has no effect with sslmode=prefer: use verify-full, or remove sslrootcert",
            ),
            (
                "sslrootcert=/ca.pem",
                "sslrootcert has no effect with sslmode=prefer: use verify-full, or remove sslrootcert",
            ),
            (
                "sslmode=require&sslrootcert=system",
                "sslrootcert=system needs sslmode=verify-full: anyone can get a certificate from one of the system's authorities",
            ),
            (
                "sslmode=verify-ca",
                "sslmode=verify-ca needs sslrootcert=FILE: anyone can get a certificate from one of the system's authorities",
            ),
            (
                "sslmode=require&sslcert=/c.pem",
                "sslcert needs sslkey=FILE, the certificate's private key",
            ),
            (
                "sslmode=require&sslkey=/k.pem",
                "sslkey needs sslcert=FILE, the key's certificate",
            ),
            ("sslmode=require&sslcert=", "sslcert is empty: name a file"),
            ("sslcrl=/crl.pem", "unknown option `sslcrl`"),
        ];
        for (parameters, said) in wrong {
            let refused = read(&format!("postgres://u:secret@h/d?{parameters}"));
            assert_eq!(refused.err().as_deref(), Some(said), "{parameters}");
        }
    }
}
