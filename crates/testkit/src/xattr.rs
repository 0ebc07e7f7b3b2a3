//! Extended attributes as a test writes them down: names and values by number and shape.

use std::fmt;

/// Index into [`XATTR_NAMES`].
pub type XattrName = u8;

/// Names of all namespaces: the first [`XATTR_GOOD`] can be had, the others can't.
pub const XATTR_NAMES: [&[u8]; 15] = [
    b"user.a",
    b"user.b",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"user.\xff x\x80",
    b"trusted.t",
    b"security.s",
    &LONGEST,
    &TOO_LONG,
    b"user.",
    b"trusted.",
    b"system.other",
    b"system.posix_acl_accessories",
    b"plain",
    b"",
];
/// Number of names that can be had.
pub const XATTR_GOOD: u64 = 8;
/// `system.posix_acl_access`.
pub const ACL_ACCESS: XattrName = 2;
/// `system.posix_acl_default`.
pub const ACL_DEFAULT: XattrName = 3;

const fn user_name<const LEN: usize>() -> [u8; LEN] {
    let mut name = [b'n'; LEN];
    let prefix = b"user.";
    let mut at = 0;
    while at < prefix.len() {
        name[at] = prefix[at];
        at += 1;
    }
    name
}

const LONGEST: [u8; 255] = user_name();
const TOO_LONG: [u8; 256] = user_name();

/// An entry of an access control list: tag, permissions, id.
type Entry = (u16, u16, u32);

const NOBODY: u32 = u32::MAX;

/// Lists: none, plain ones, extended ones, then what is no list.
const LISTS: [&[Entry]; 10] = [
    &[(1, 7, NOBODY), (4, 5, NOBODY), (32, 0, NOBODY)],
    &[(1, 6, 5), (4, 4, 6), (32, 4, 7)],
    &[(1, 6, NOBODY), (2, 5, 7), (4, 4, NOBODY), (16, 7, NOBODY), (32, 4, NOBODY)],
    &[(1, 7, NOBODY), (2, 7, 1000), (2, 0, 9), (4, 7, NOBODY), (8, 3, 88), (16, 5, NOBODY), (32, 1, NOBODY)],
    &[(1, 7, NOBODY), (4, 7, NOBODY), (16, 2, NOBODY), (32, 7, NOBODY)],
    &[(1, 7, NOBODY), (2, 5, 7), (4, 4, NOBODY), (32, 4, NOBODY)],
    &[(1, 7, NOBODY), (4, 4, NOBODY)],
    &[(4, 4, NOBODY), (1, 7, NOBODY), (32, 4, NOBODY)],
    &[(1, 8, NOBODY), (4, 4, NOBODY), (32, 4, NOBODY)],
    &[],
];
/// Number of shapes of access control lists.
pub const ACL_SHAPES: u64 = LISTS.len() as u64 + 3;

/// A value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XattrValue {
    /// So many bytes of this one.
    Bytes(u32, u8),
    /// An access control list of this shape, some of them malformed.
    Acl(u8),
}

impl XattrValue {
    /// The value.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        match self {
            XattrValue::Bytes(len, fill) => vec![fill; len as usize],
            XattrValue::Acl(shape) => acl(usize::from(shape)),
        }
    }

    /// Shorter ones, for shrinking.
    #[must_use]
    pub fn smaller(self) -> Vec<XattrValue> {
        match self {
            XattrValue::Bytes(len, fill) => {
                (crate::op::smaller(u64::from(len), 0)).map(|shorter| XattrValue::Bytes(shorter as u32, fill)).collect()
            }
            XattrValue::Acl(_) => Vec::new(),
        }
    }
}

impl fmt::Display for XattrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            XattrValue::Bytes(len, fill) => write!(f, "{len} bytes of {fill:#x}"),
            XattrValue::Acl(shape) => write!(f, "list {shape} ({})", acl(usize::from(*shape)).escape_ascii()),
        }
    }
}

fn acl(shape: usize) -> Vec<u8> {
    let Some(entries) = LISTS.get(shape) else {
        let whole = acl(2);
        return match shape - LISTS.len() {
            0 => whole[..whole.len() - 3].to_vec(),
            1 => [&[9], &whole[1..]].concat(),
            _ => whole[..3].to_vec(),
        };
    };
    let mut value = vec![2, 0, 0, 0];
    for (tag, permissions, id) in *entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}
