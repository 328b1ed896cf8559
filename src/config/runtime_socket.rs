//! `admin.haproxy_socket`: where HAProxy's runtime commands are taken, and what they may do.

use std::path::PathBuf;

use super::claims::Claims;
use super::node::Node;
use super::word::Word;

/// A socket for tools made for HAProxy. HAProxy: `stats socket PATH level L mode M`.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeSocket {
    pub path: PathBuf,
    /// Default operator.
    pub level: SocketLevel,
    /// Permissions of the file. `None`: 0660, and as they are where the service manager passes the socket.
    pub mode: Option<u32>,
}

/// What whoever can open the socket may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketLevel {
    /// Sees statistics.
    User,
    /// Sees sessions too, and forgets maxima.
    #[default]
    Operator,
    /// Changes states and ends sessions.
    Admin,
}

impl Word for SocketLevel {
    const WORDS: &'static [(&'static str, Self)] =
        &[("user", Self::User), ("operator", Self::Operator), ("admin", Self::Admin)];
}

/// Its owner and its group.
const DEFAULT_MODE: u32 = 0o660;

impl RuntimeSocket {
    /// Of the file that is made.
    pub fn new_mode(&self) -> u32 {
        self.mode.unwrap_or(DEFAULT_MODE)
    }

    /// What the file is to have, which is this process's own or not. `None`: what it has.
    pub fn file_mode(&self, is_own: bool) -> Option<u32> {
        self.mode.or_else(|| is_own.then_some(DEFAULT_MODE))
    }
}

pub fn runtime_socket<'a>(node: &Node<'a>, claims: &mut Claims<'a>) -> Option<RuntimeSocket> {
    if node.is_off() {
        return None;
    }
    let (mut level, mut mode) = (SocketLevel::default(), None);
    let path = match node.is_map() {
        false => super::admin::socket(node, claims)?,
        true => {
            let map = node.map(&["path", "level", "mode"])?;
            level = map.read("level", level, Node::word);
            mode = map.find("mode").and_then(|node| permissions(&node));
            map.need("path", "the path of a unix socket such as /run/pilotfish/haproxy.sock")
                .and_then(|node| super::admin::socket(&node, claims))?
        }
    };
    Some(RuntimeSocket { path, level, mode })
}

/// In octal, as `chmod` takes it; in quotes, since a bare 660 is a number to YAML, and another one.
pub fn permissions(node: &Node<'_>) -> Option<u32> {
    let expected = "permissions in octal and in quotes, such as \"0660\"";
    let text = node.text(expected)?;
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Some(mode),
        _ => node.refuse_value(format!("is not {expected}")),
    }
}
