//! What follows a request's header, taken piece by piece.

use zerocopy::{FromBytes, Immutable, KnownLayout};

/// A request ends before what it must have, or a name has no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// The bytes of one request that nothing was made of yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments<'a> {
    /// Where the first structure is, if not before the rest.
    structure: Option<&'a [u8]>,
    bytes: &'a [u8],
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Arguments<'a> {
        Arguments { structure: None, bytes }
    }

    /// Of a request whose first structure, if it has one, is apart from names and data. There may be anything behind it.
    pub(crate) fn apart(structure: &'a [u8], bytes: &'a [u8]) -> Arguments<'a> {
        Arguments { structure: Some(structure), bytes }
    }

    /// The next structure.
    pub(crate) fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Malformed> {
        if let Some(structure) = self.structure.take() {
            return T::read_from_prefix(structure).map(|(value, _)| value).map_err(|_| Malformed);
        }
        let (value, rest) = T::read_from_prefix(self.bytes).map_err(|_| Malformed)?;
        self.bytes = rest;
        Ok(value)
    }

    /// The next bytes up to a NUL, without it.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let end = self.bytes.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let text = &self.bytes[..end];
        self.bytes = &self.bytes[end + 1..];
        Ok(text)
    }

    /// So many bytes.
    pub(crate) fn data(&mut self, len: u32) -> Result<&'a [u8], Malformed> {
        let (data, rest) = self.bytes.split_at_checked(len as usize).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{MkdirIn, RenameIn};

    #[test]
    fn pieces_come_in_order_and_what_is_missing_is_malformed() {
        let mut arguments = Arguments::new(b"\x01\0\0\0\x02\0\0\0name\0rest");
        let head: MkdirIn = arguments.take().unwrap_or_default();
        assert_eq!((head.mode, head.umask), (1, 2));
        assert_eq!(arguments.text(), Ok(&b"name"[..]));
        assert_eq!(arguments.text(), Err(Malformed), "`rest` has no NUL");
        assert!(arguments.take::<RenameIn>().is_err());
        assert_eq!(arguments.data(5), Err(Malformed));
        assert_eq!(arguments.data(4), Ok(&b"rest"[..]));
        assert_eq!(arguments.data(0), Ok(&b""[..]));
    }

    #[test]
    fn a_structure_apart_comes_first_and_a_request_without_one_leaves_it() {
        let mut arguments = Arguments::apart(b"\x01\0\0\0\x02\0\0\0rubbish", b"name\0");
        assert_eq!(arguments.text(), Ok(&b"name"[..]));
        let mut arguments = Arguments::apart(b"\x01\0\0\0\x02\0\0\0rubbish", b"name\0");
        assert_eq!(arguments.take::<MkdirIn>().map(|head| head.umask), Ok(2));
        assert_eq!(arguments.text(), Ok(&b"name"[..]));
        assert!(Arguments::apart(b"short", b"\0").take::<MkdirIn>().is_err());
    }
}
