//! Elements of nftables sets, as the kernel takes them.

use std::borrow::Cow;

/// One element of a set or a map, to be added or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementChange<'a> {
    /// The set.
    pub set: &'a str,
    /// Whether it is added.
    pub is_added: bool,
    /// The key in network byte order; the fields of a concatenation are padded to four bytes each.
    pub key: Vec<u8>,
    /// What a map has for it; none when it is removed.
    pub data: Option<Data<'a>>,
    /// What `nft list` shows beside it, at most 127 bytes.
    pub comment: Option<Cow<'a, str>>,
}

/// What a map has for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<'a> {
    /// A value, in the form of a key.
    Value(Vec<u8>),
    /// Go on in this chain.
    Goto(&'a str),
    /// Drop the packet.
    Drop,
}
