//! Configuration files of wg(8) and wg-quick(8), read and written.
//!
//! Keys and section names are read in any case, `#` begins a comment, `AllowedIPs` may come several times and holds a
//! list each time. wg-quick's own keys (`Address`, `DNS`, `MTU`, …) say nothing about the device: they are kept apart,
//! in [`Config::quick`], for who wants them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tombolo_net::wireguard::{Device, Endpoint, Key, Peer};

/// A file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// `PrivateKey`; `None` where there is none, or zero.
    pub private_key: Option<Key>,
    /// `ListenPort`.
    pub listen_port: Option<u16>,
    /// `FwMark`; `off` is 0.
    pub fwmark: Option<u32>,
    /// `[Peer]` sections, in the file's order; their keys differ.
    pub peers: Vec<PeerConfig>,
    /// wg-quick's keys of `[Interface]`, in the file's order.
    pub quick: Vec<QuickSetting>,
}

/// A `[Peer]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// `PublicKey`.
    pub public_key: Key,
    /// `PresharedKey`; `None` where there is none, or zero.
    pub preshared_key: Option<Key>,
    /// `AllowedIPs`, as networks (host bits cleared).
    pub allowed_ips: Vec<IpNet>,
    /// `Endpoint`, its name not resolved.
    pub endpoint: Option<Endpoint>,
    /// `PersistentKeepalive` in seconds; `off` is `None`.
    pub persistent_keepalive: Option<u16>,
}

/// A key that wg-quick(8) reads and wg(8) does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuickSetting {
    /// The key as wg-quick(8) spells it.
    pub key: &'static str,
    /// The value as it stands.
    pub value: String,
}

/// Why a text is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}{reason}", key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
pub struct ConfigError {
    /// The line, from 1.
    pub line: usize,
    /// The key at fault, as the file spells it; `None` where the line has none.
    pub key: Option<String>,
    /// What is wrong, and what would be right. Secrets are not repeated.
    pub reason: String,
}

/// Why a [`Config`] is no [`Device`].
#[derive(Debug, thiserror::Error)]
#[error("peer {peer}: the endpoint {endpoint} can't be resolved: {reason}")]
pub struct ResolveError {
    /// Whose endpoint.
    pub peer: Key,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// What the resolver said.
    pub reason: String,
}

const QUICK_KEYS: [&str; 9] =
    ["Address", "DNS", "MTU", "Table", "PreUp", "PostUp", "PreDown", "PostDown", "SaveConfig"];

/// Reads a configuration file.
///
/// # Errors
/// At the first line that is wrong: which, which key, and why.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let mut parser = Parser::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            parser.line(at + 1, line)?;
        }
    }
    parser.end()
}

/// Like [`parse`], from bytes of anybody's.
///
/// # Errors
/// As [`parse`], and where the bytes are not UTF-8.
pub fn parse_bytes(bytes: &[u8]) -> Result<Config, ConfigError> {
    let text = str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|c| **c == b'\n').count() + 1;
        ConfigError { line, key: None, reason: "the file is not text (UTF-8)".to_owned() }
    })?;
    parse(text)
}

/// Writes a device as `wg showconf` does.
pub fn render(device: &Device) -> String {
    Config::from(device).to_string()
}

impl Config {
    /// The device, with names looked up by `resolve`.
    ///
    /// # Errors
    /// For the first endpoint whose name can't be resolved.
    pub fn device(
        &self,
        mut resolve: impl FnMut(&Endpoint) -> Result<SocketAddr, String>,
    ) -> Result<Device, ResolveError> {
        let mut peers = Vec::with_capacity(self.peers.len());
        for peer in &self.peers {
            let endpoint =
                match &peer.endpoint {
                    None => None,
                    Some(endpoint) => {
                        Some(endpoint.socket_addr().map_or_else(|| resolve(endpoint), Ok).map_err(|reason| {
                            ResolveError { peer: peer.public_key, endpoint: endpoint.clone(), reason }
                        })?)
                    }
                };
            peers.push(Peer {
                public_key: peer.public_key,
                preshared_key: peer.preshared_key,
                endpoint,
                persistent_keepalive: peer.persistent_keepalive,
                allowed_ips: peer.allowed_ips.clone(),
            });
        }
        Ok(Device { private_key: self.private_key, listen_port: self.listen_port, fwmark: self.fwmark, peers })
    }
}

impl From<&Device> for Config {
    fn from(device: &Device) -> Self {
        let peers = device.peers.iter().map(|peer| PeerConfig {
            public_key: peer.public_key,
            preshared_key: peer.preshared_key,
            allowed_ips: peer.allowed_ips.clone(),
            endpoint: peer.endpoint.map(Endpoint::from),
            persistent_keepalive: peer.persistent_keepalive,
        });
        Self {
            private_key: device.private_key,
            listen_port: device.listen_port,
            fwmark: device.fwmark,
            peers: peers.collect(),
            quick: Vec::new(),
        }
    }
}

impl fmt::Display for Config {
    /// The text that [`parse`] reads to the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Interface]")?;
        if let Some(port) = self.listen_port {
            writeln!(f, "ListenPort = {port}")?;
        }
        if let Some(mark) = self.fwmark {
            writeln!(f, "FwMark = {mark:#x}")?;
        }
        if let Some(key) = self.private_key {
            writeln!(f, "PrivateKey = {key}")?;
        }
        for setting in &self.quick {
            writeln!(f, "{} = {}", setting.key, setting.value)?;
        }
        for peer in &self.peers {
            writeln!(f)?;
            peer.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Peer]")?;
        writeln!(f, "PublicKey = {}", self.public_key)?;
        if let Some(key) = self.preshared_key {
            writeln!(f, "PresharedKey = {key}")?;
        }
        if !self.allowed_ips.is_empty() {
            let ips: Vec<String> = self.allowed_ips.iter().map(IpNet::to_string).collect();
            writeln!(f, "AllowedIPs = {}", ips.join(", "))?;
        }
        if let Some(endpoint) = &self.endpoint {
            writeln!(f, "Endpoint = {endpoint}")?;
        }
        if let Some(seconds) = self.persistent_keepalive {
            writeln!(f, "PersistentKeepalive = {seconds}")?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Parser {
    config: Config,
    section: Section,
    /// Where each peer was.
    seen: BTreeMap<Key, usize>,
}

#[derive(Default)]
enum Section {
    #[default]
    None,
    Interface,
    Peer(usize, PeerConfig),
}

impl Parser {
    fn line(&mut self, at: usize, line: &str) -> Result<(), ConfigError> {
        if line.starts_with('[') {
            return self.begin(at, line);
        }
        let Some((name, value)) = line.split_once('=') else {
            let reason = "a line is a [Section] or KEY = VALUE".to_owned();
            return Err(ConfigError { line: at, key: None, reason });
        };
        let (name, value) = (name.trim(), value.trim());
        let set = match &mut self.section {
            Section::None => Err("it comes before the first section; begin with [Interface] or [Peer]".to_owned()),
            Section::Interface => self.config.set(name, value),
            Section::Peer(_, peer) => peer.set(name, value),
        };
        set.map_err(|reason| ConfigError { line: at, key: Some(name.to_owned()), reason })
    }

    fn begin(&mut self, at: usize, line: &str) -> Result<(), ConfigError> {
        let section = match line.to_ascii_lowercase().as_str() {
            "[interface]" => Section::Interface,
            "[peer]" => Section::Peer(at, PeerConfig::new()),
            _ => {
                let reason = format!("{line} is no section; there are [Interface] and [Peer]");
                return Err(ConfigError { line: at, key: None, reason });
            }
        };
        self.close(section)
    }

    fn end(mut self) -> Result<Config, ConfigError> {
        self.close(Section::None)?;
        Ok(self.config)
    }

    fn close(&mut self, next: Section) -> Result<(), ConfigError> {
        let Section::Peer(line, peer) = std::mem::replace(&mut self.section, next) else { return Ok(()) };
        let error = |reason: String| ConfigError { line, key: Some("PublicKey".to_owned()), reason };
        if peer.public_key.is_zero() {
            return Err(error("the [Peer] that begins here has none".to_owned()));
        }
        if let Some(first) = self.seen.insert(peer.public_key, line) {
            let reason = format!("the peer {} is there already, at line {first}; join the two", peer.public_key);
            return Err(error(reason));
        }
        self.config.peers.push(peer);
        Ok(())
    }
}

impl Config {
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name.to_ascii_lowercase().as_str() {
            "privatekey" => self.private_key = key(value)?,
            "listenport" => {
                self.listen_port = Some(value.parse().map_err(|_| format!("{value:?} is no port (0 to 65535)"))?);
            }
            "fwmark" => self.fwmark = Some(fwmark(value)?),
            lower => {
                let quick = QUICK_KEYS.iter().find(|key| key.eq_ignore_ascii_case(lower));
                let Some(key) = quick else {
                    return Err("no key of [Interface]; wg(8) knows PrivateKey, ListenPort and FwMark".to_owned());
                };
                self.quick.push(QuickSetting { key, value: value.to_owned() });
            }
        }
        Ok(())
    }
}

impl PeerConfig {
    fn new() -> Self {
        Self {
            public_key: Key::default(),
            preshared_key: None,
            allowed_ips: Vec::new(),
            endpoint: None,
            persistent_keepalive: None,
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name.to_ascii_lowercase().as_str() {
            "publickey" => {
                self.public_key = key(value)?.ok_or("a peer's public key is not zero or (none)")?;
            }
            "presharedkey" => self.preshared_key = key(value)?,
            "allowedips" if value == "(none)" => {}
            "allowedips" => {
                for text in value.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                    let ip = allowed_ip(text)?;
                    if !self.allowed_ips.contains(&ip) {
                        self.allowed_ips.push(ip);
                    }
                }
            }
            "endpoint" if value == "(none)" => self.endpoint = None,
            "endpoint" => {
                self.endpoint = Some(value.to_ascii_lowercase().parse::<Endpoint>().map_err(|e| e.to_string())?)
            }
            "persistentkeepalive" => {
                let seconds: u16 = match value.to_ascii_lowercase().as_str() {
                    "off" => 0,
                    other => other.parse().map_err(|_| format!("{value:?} is neither off nor seconds (0 to 65535)"))?,
                };
                self.persistent_keepalive = (seconds != 0).then_some(seconds);
            }
            _ => {
                return Err("no key of [Peer]; there are PublicKey, PresharedKey, AllowedIPs, Endpoint and \
                     PersistentKeepalive"
                    .to_owned());
            }
        }
        Ok(())
    }
}

/// The reason does not repeat the text: it may be a secret that lacks a letter.
fn key(value: &str) -> Result<Option<Key>, String> {
    if value == "(none)" {
        return Ok(None);
    }
    let key: Key = value
        .parse()
        .map_err(|_| "no key of 32 bytes in Base64 (44 characters), as `wg genkey` prints it".to_owned())?;
    Ok((!key.is_zero()).then_some(key))
}

fn fwmark(value: &str) -> Result<u32, String> {
    let lower = value.to_ascii_lowercase();
    let mark = match lower.strip_prefix("0x") {
        _ if lower == "off" => return Ok(0),
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => lower.parse().ok(),
    };
    mark.ok_or_else(|| format!("{value:?} is neither off nor a number of 32 bits (decimal, or hexadecimal after 0x)"))
}

fn allowed_ip(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(ip) => Some(IpNet::from(ip)),
        Err(_) => text.parse::<IpNet>().ok(),
    };
    net.map(|net| net.trunc()).ok_or_else(|| format!("{text:?} is neither an address nor a network (ADDRESS/LENGTH)"))
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
