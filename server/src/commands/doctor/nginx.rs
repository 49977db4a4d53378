//! What nginx passes on: WebSockets need their headers, and limits by address need the client's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Findings;
use crate::commands::CommandError;
use crate::config::{Listen, ServerConfig};

/// Files that are read; one configuration has a handful.
const FILES_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What nginx waits for data where nothing is said.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn examine(
    directory: &Path,
    config: &ServerConfig,
    findings: &mut Findings,
) -> Result<(), CommandError> {
    let Listen::Tcp(address) = config.listen else { return Ok(()) };
    let mut root = Block::default();
    for path in files(directory) {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        root.blocks.extend(Block::parse(&text).blocks);
    }
    let targets = targets(&root, address.port());
    let mut locations = Vec::new();
    collect(&root, &Passed::default(), &targets, &mut locations);
    if locations.is_empty() {
        return findings.fine(format!("no proxy for port {} in {}", address.port(), directory.display()));
    }
    for passed in locations {
        passed.judge(config.http.ping_interval, findings)?;
    }
    Ok(())
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut paths = vec![directory.join("nginx.conf")];
    for part in ["sites-enabled", "conf.d"] {
        let entries = fs::read_dir(directory.join(part)).into_iter().flatten().flatten();
        paths.extend(entries.map(|entry| entry.path()));
    }
    paths.retain(|path| fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= FILE_BYTES_MAX));
    paths.sort();
    paths.truncate(FILES_MAX);
    paths
}

/// A block of nginx's configuration: its head, its directives, the blocks in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block {
    head: Vec<String>,
    directives: Vec<Vec<String>>,
    blocks: Vec<Block>,
}

impl Block {
    /// Reads what can be read; whatever is beyond that is nginx' own business.
    fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quote = None;
        let mut comment = false;
        for c in text.chars() {
            match (quote, c) {
                _ if comment => comment = c != '\n',
                (Some(mark), _) if c == mark => quote = None,
                (Some(_), _) => word.push(c),
                (None, '"' | '\'') => quote = Some(c),
                (None, '#') if word.is_empty() => comment = true,
                (None, ';' | '{' | '}') => {
                    words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                    Self::punctuate(&mut open, c, std::mem::take(&mut words));
                }
                (None, c) if c.is_whitespace() => {
                    words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                }
                (None, c) => word.push(c),
            }
        }
        while open.len() > 1 {
            Self::punctuate(&mut open, '}', Vec::new());
        }
        open.pop().unwrap_or_default()
    }

    fn punctuate(open: &mut Vec<Self>, mark: char, words: Vec<String>) {
        match mark {
            '{' => open.push(Self { head: words, ..Self::default() }),
            '}' if open.len() > 1 => {
                let closed = open.pop();
                if let (Some(outer), Some(closed)) = (open.last_mut(), closed) {
                    outer.blocks.push(closed);
                }
            }
            ';' => {
                if let Some(block) = open.last_mut() {
                    block.directives.push(words);
                }
            }
            _ => {}
        }
    }

    fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [String]> {
        let named = move |words: &&Vec<String>| words.first().is_some_and(|word| word == name);
        self.directives.iter().filter(named).map(|words| &words[1..])
    }
}

/// What `proxy_pass` may name to reach this port: addresses, and the upstreams that hold them.
fn targets(root: &Block, port: u16) -> Vec<String> {
    let hosts = ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"].map(|host| format!("{host}:{port}"));
    let mut targets = hosts.to_vec();
    let mut blocks: Vec<&Block> = root.blocks.iter().collect();
    while let Some(block) = blocks.pop() {
        blocks.extend(&block.blocks);
        if let [kind, name] = &block.head[..]
            && kind == "upstream"
            && block
                .values("server")
                .any(|server| server.first().is_some_and(|server| hosts.contains(server)))
        {
            targets.push(name.clone());
        }
    }
    targets
}

/// What holds for a location: nginx hands directives down to inner blocks, headers only where a block sets
/// none itself.
#[derive(Clone, Debug, Default)]
struct Passed {
    location: String,
    http_version: Option<String>,
    headers: Vec<String>,
    read_timeout: Option<String>,
}

fn collect(block: &Block, outer: &Passed, targets: &[String], found: &mut Vec<Passed>) {
    let mut passed = outer.clone();
    let last = |name: &str| block.values(name).last().and_then(|values| values.first().cloned());
    passed.http_version = last("proxy_http_version").or(passed.http_version);
    passed.read_timeout = last("proxy_read_timeout").or(passed.read_timeout);
    let headers: Vec<_> = block
        .values("proxy_set_header")
        .filter_map(|values| values.first())
        .map(|header| header.to_ascii_lowercase())
        .collect();
    if !headers.is_empty() {
        passed.headers = headers;
    }
    if block.head.first().is_some_and(|word| word == "location") {
        passed.location = block.head.join(" ");
    }
    let reaches = |values: &[String]| {
        let Some(place) = values.first().and_then(|target| target.split_once("://")) else { return false };
        targets.iter().any(|target| place.1.split('/').next() == Some(target))
    };
    if block.values("proxy_pass").any(reaches) {
        found.push(passed.clone());
    }
    for inner in &block.blocks {
        collect(inner, &passed, targets, found);
    }
}

impl Passed {
    fn judge(&self, ping_interval: Duration, findings: &mut Findings) -> Result<(), CommandError> {
        let has = |header: &str| self.headers.iter().any(|name| name == header);
        let place = format!("nginx, {}", self.location);
        let mut good = true;
        if self.http_version.as_deref() != Some("1.1") || !has("upgrade") || !has("connection") {
            good = false;
            findings.problem(
                format!("{place}: WebSockets do not pass"),
                "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\";",
            )?;
        }
        if !has("x-forwarded-for") && !has("x-real-ip") {
            good = false;
            findings.warning(
                format!("{place}: the server does not learn the clients' addresses"),
                "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
            )?;
        }
        let timeout = self.read_timeout.as_deref().and_then(seconds).unwrap_or(READ_TIMEOUT);
        if timeout <= ping_interval {
            good = false;
            findings.problem(
                format!("{place}: closes sockets that are silent for {} s", timeout.as_secs()),
                "proxy_read_timeout 7d;",
            )?;
        }
        match good {
            true => findings.fine(format!("{place}: passes on what is needed")),
            false => Ok(()),
        }
    }
}

/// A time as nginx writes it.
fn seconds(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..unit].parse().ok()?;
    let factor = match &text[unit..] {
        "ms" => return Some(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    number.checked_mul(factor).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = r#"
        upstream collab { server 127.0.0.1:3001 max_fails=0; }
        server { # the app
            proxy_set_header X-Real-IP $remote_addr;
            location / { proxy_pass http://127.0.0.1:3000; }
            location ~ ^/ws$ {
                proxy_pass http://collab/;
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection "upgrade";
                proxy_read_timeout 7d;
            }
            location /plain { proxy_pass http://localhost:3001; proxy_read_timeout 20s; }
        }"#;

    fn locations() -> Vec<Passed> {
        let root = Block::parse(SITE);
        let mut found = Vec::new();
        collect(&root, &Passed::default(), &targets(&root, 3001), &mut found);
        found
    }

    #[test]
    fn locations_are_found_with_what_they_inherit() {
        let [ws, plain] = &locations()[..] else { panic!("{:?}", locations()) };
        assert_eq!(ws.location, "location ~ ^/ws$");
        assert_eq!(ws.headers, ["upgrade", "connection"]);
        assert_eq!(plain.headers, ["x-real-ip"]);
    }

    #[test]
    fn what_is_missing_is_told() {
        let judge = |passed: &Passed| {
            let mut findings = Findings::default();
            passed.judge(Duration::from_secs(25), &mut findings).unwrap();
            (findings.problems, findings.warnings)
        };
        let [ws, plain] = &locations()[..] else { panic!() };
        assert_eq!(judge(ws), (0, 1), "headers of its own, so it does not inherit the address");
        assert_eq!(judge(plain), (2, 0), "no WebSockets, and a timeout below the ping");
    }

    #[test]
    fn times_have_units() {
        assert_eq!(seconds("7d"), Some(Duration::from_secs(604_800)));
        assert_eq!(seconds("90"), Some(Duration::from_secs(90)));
        assert_eq!(seconds("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(seconds("1h30m"), None);
    }
}
