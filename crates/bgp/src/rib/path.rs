//! The paths to a prefix.

use super::{AttributeId, SourceId};

/// One path to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// Who announced it.
    pub source: SourceId,
    /// With what attributes.
    pub attributes: AttributeId,
    /// Its identifier in the source's messages (RFC 7911), else 0.
    pub received_id: u32,
    /// Its identifier in our messages: unique among the prefix's paths.
    pub sent_id: u16,
    /// What else is to be known.
    pub state: State,
}

/// A path's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State(u16);

impl State {
    const STALE: u16 = 1;
    const REASON_SHIFT: u32 = 1;

    /// Refused for a reason, or taken.
    pub fn new(refusal: Option<Refusal>) -> Self {
        Self(refusal.map_or(0, |r| u16::from(r.0) + 1) << Self::REASON_SHIFT)
    }

    /// Whether the path takes part in the choice.
    #[inline]
    pub fn eligible(self) -> bool {
        self.0 >> Self::REASON_SHIFT == 0
    }

    /// Why not.
    pub fn refusal(self) -> Option<Refusal> {
        let reason = (self.0 >> Self::REASON_SHIFT).checked_sub(1)?;
        u8::try_from(reason).ok().map(Refusal)
    }

    /// Whether the source has not confirmed it since its session was lost, or began to send all anew.
    #[inline]
    pub fn stale(self) -> bool {
        self.0 & Self::STALE != 0
    }

    pub(super) fn set_stale(&mut self) {
        self.0 |= Self::STALE;
    }
}

/// Why a path takes no part in the choice, in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(u8);

impl Refusal {
    /// The own AS is on the path.
    pub const AS_LOOP: Self = Self(0);
    /// This speaker is the originator.
    pub const ORIGINATOR_LOOP: Self = Self(1);
    /// The own cluster is on the cluster list.
    pub const CLUSTER_LOOP: Self = Self(2);
    /// The next hop is this speaker.
    pub const OWN_NEXT_HOP: Self = Self(3);
    /// There is no policy, and one is required (RFC 8212).
    pub const NO_POLICY: Self = Self(4);
    /// It leaks (RFC 9234).
    pub const LEAK: Self = Self(5);
    /// The import policy's default.
    pub const POLICY_DEFAULT: Self = Self(6);
    const STATEMENT: u8 = 7;

    /// A statement of the import policy, by its place.
    pub fn statement(index: usize) -> Self {
        Self(u8::try_from(index).unwrap_or(u8::MAX).saturating_add(Self::STATEMENT))
    }

    /// The place of the statement that refused it.
    pub fn of_statement(self) -> Option<usize> {
        self.0.checked_sub(Self::STATEMENT).map(usize::from)
    }

    /// Why, where no statement of a policy says it.
    pub fn words(self) -> &'static str {
        match self {
            Self::AS_LOOP => "the own AS is on its AS path",
            Self::ORIGINATOR_LOOP => "it was originated here",
            Self::CLUSTER_LOOP => "the own cluster ID is on its cluster list",
            Self::OWN_NEXT_HOP => "its next hop is this speaker",
            Self::NO_POLICY => "there is no import policy, and RFC 8212 requires one",
            Self::LEAK => "it leaks (RFC 9234)",
            Self::POLICY_DEFAULT => "no statement of the import policy takes it",
            _ => "a statement of the import policy refuses it",
        }
    }
}

/// The paths to a prefix. Most have one.
#[derive(Debug, Default)]
pub enum Paths {
    /// None: the prefix is on its way out.
    #[default]
    None,
    /// None, and no prefix either: the row is free.
    Free,
    /// One.
    One(Path),
    /// Several, the oldest first.
    Many(Box<Vec<Path>>),
}

impl Paths {
    /// All of them.
    #[inline]
    pub fn as_slice(&self) -> &[Path] {
        match self {
            Self::None | Self::Free => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None | Self::Free => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }

    /// Adds a path, with the smallest identifier that is free, which it returns.
    #[inline]
    pub(super) fn push(&mut self, mut path: Path) -> u16 {
        path.sent_id = 1;
        if matches!(self, Self::None) {
            *self = Self::One(path);
            return 1;
        }
        self.push_another(path)
    }

    fn push_another(&mut self, mut path: Path) -> u16 {
        let paths = self.as_slice();
        while paths.iter().any(|p| p.sent_id == path.sent_id) {
            path.sent_id += 1;
        }
        let sent_id = path.sent_id;
        *self = match std::mem::take(self) {
            Self::None | Self::Free => Self::One(path),
            Self::One(first) => Self::Many(Box::new(vec![first, path])),
            Self::Many(mut paths) => {
                paths.push(path);
                Self::Many(paths)
            }
        };
        sent_id
    }

    /// Removes the paths that `gone` says. Returns whether there were any.
    pub(super) fn remove(&mut self, mut gone: impl FnMut(&Path) -> bool) -> bool {
        let (left, removed) = match std::mem::take(self) {
            none @ (Self::None | Self::Free) => (none, false),
            Self::One(path) if gone(&path) => (Self::None, true),
            Self::One(path) => (Self::One(path), false),
            Self::Many(mut paths) => {
                let before = paths.len();
                paths.retain(|path| !gone(path));
                let removed = paths.len() < before;
                match paths[..] {
                    [] => (Self::None, removed),
                    [path] => (Self::One(path), removed),
                    _ => (Self::Many(paths), removed),
                }
            }
        };
        *self = left;
        removed
    }
}
