//! The version of what this crate writes into an engine, kept in the engine: the formats of the engines aren't promised
//! by them, so it says which build may read a store whatever the engine thinks of its own files.

use crate::{MetaError, Result, keys};

/// What this build writes.
const CURRENT: u32 = 1;

/// What an engine offers to its guards, below the caller's keys.
pub(super) trait Records {
    /// The value of an engine's key.
    fn record(&self, stored: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Whether any caller's record is there.
    fn has_caller_records(&self) -> Result<bool>;

    /// Sets one engine's key, durable on return.
    fn set_record(&self, stored: &[u8], value: &[u8]) -> Result<()>;
}

/// Refuses a store of a newer version; writes the version into a new one.
pub(super) fn check(store: &impl Records) -> Result<()> {
    let Some(value) = store.record(keys::FORMAT_VERSION)? else {
        if store.has_caller_records()? {
            return Err(MetaError::Corrupt("the metadata store holds records but no format version".into()));
        }
        return store.set_record(keys::FORMAT_VERSION, &CURRENT.to_le_bytes());
    };
    let Ok(bytes) = <[u8; 4]>::try_from(value.as_slice()) else {
        return Err(MetaError::Corrupt(format!("the format version of the metadata store has {} bytes", value.len())));
    };
    match u32::from_le_bytes(bytes) {
        CURRENT => Ok(()),
        0 => Err(MetaError::Corrupt("the format version of the metadata store is 0".into())),
        newer => Err(MetaError::Unsupported(format!(
            "the metadata store has format version {newer}, this build reads up to {CURRENT}: use a newer build"
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Default)]
    struct Fake(RefCell<BTreeMap<Vec<u8>, Vec<u8>>>);

    impl Records for Fake {
        fn record(&self, stored: &[u8]) -> Result<Option<Vec<u8>>> {
            Ok(self.0.borrow().get(stored).cloned())
        }

        fn has_caller_records(&self) -> Result<bool> {
            Ok(self.0.borrow().keys().any(|key| keys::RECORDS.contains(&key.as_slice())))
        }

        fn set_record(&self, stored: &[u8], value: &[u8]) -> Result<()> {
            self.0.borrow_mut().insert(stored.into(), value.into());
            Ok(())
        }
    }

    #[test]
    fn a_new_store_gets_the_version_and_opens_again() {
        let store = Fake::default();
        check(&store).unwrap();
        assert_eq!(store.record(keys::FORMAT_VERSION).unwrap().unwrap(), CURRENT.to_le_bytes());
        store.set_record(&keys::stored(b"k"), b"v").unwrap();
        check(&store).unwrap();
    }

    #[test]
    fn a_newer_version_is_refused_and_left_alone() {
        let store = Fake::default();
        store.set_record(keys::FORMAT_VERSION, &(CURRENT + 1).to_le_bytes()).unwrap();
        assert!(matches!(check(&store), Err(MetaError::Unsupported(_))));
        assert_eq!(store.record(keys::FORMAT_VERSION).unwrap().unwrap(), (CURRENT + 1).to_le_bytes());
    }

    #[test]
    fn a_version_that_is_missing_or_makes_no_sense_is_damage() {
        for version in [None, Some(&[][..]), Some(&[1, 0]), Some(&[0; 4])] {
            let store = Fake::default();
            store.set_record(&keys::stored(b"k"), b"v").unwrap();
            if let Some(version) = version {
                store.set_record(keys::FORMAT_VERSION, version).unwrap();
            }
            assert!(matches!(check(&store), Err(MetaError::Corrupt(_))), "{version:?}");
        }
    }
}
