//! A directory of 200,000 names, listed while names come and go.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod volume;

use std::collections::HashMap;

use verfs_base::Ino;
use verfs_vfs::{Listing, NodeKind, VfsOptions};

use self::volume::{ROOT, Volume};

const NAMES: u32 = 200_000;

#[test]
fn cookies_of_a_directory_of_200_000_names_stay_good_while_names_come_and_go() {
    let volume = Volume::new(VfsOptions::default());
    let open = volume.open();
    let dir = open.vfs.mkdir(&ROOT, Ino::ROOT, b"dir", 0o755).unwrap().ino;
    let make = |name: &str| open.vfs.mknod(&ROOT, dir, name.as_bytes(), NodeKind::Regular, 0o644).unwrap();
    for number in 0..NAMES {
        make(&format!("{number}"));
    }
    assert_eq!(open.vfs.getattr(&ROOT, dir).unwrap().size, u64::from(NAMES));
    let mut seen: HashMap<Vec<u8>, u64> = HashMap::new();
    let (mut cookie, mut pages) = (0, 0u32);
    loop {
        let page = open.vfs.readdir(&ROOT, dir, cookie, 1000, Listing::Names).unwrap();
        let Some(last) = page.last() else { break };
        for entry in &page {
            assert_eq!(seen.insert(entry.name.to_vec(), entry.cookie), None, "{:?} is listed twice", entry.name);
        }
        cookie = last.cookie;
        // The entry that the listing goes on behind is among those that go.
        if last.name != b".."[..] {
            open.vfs.unlink(&ROOT, dir, &last.name).unwrap();
        }
        make(&format!("new{pages}"));
        pages += 1;
    }
    assert!((0..NAMES).all(|number| seen.contains_key(format!("{number}").as_bytes())));
    // A cookie taken long ago leads on from where it was.
    let (_, old) = seen.iter().find(|(name, _)| name.as_slice() == b"100000").unwrap();
    let page = open.vfs.readdir(&ROOT, dir, *old, 100, Listing::Names).unwrap();
    let again = page.iter().filter(|entry| seen.get(&entry.name[..]).is_some_and(|known| *known == entry.cookie));
    let fresh = page.iter().filter(|entry| entry.name.starts_with(b"new"));
    assert_eq!(again.count().max(100 - fresh.count()), 100);
    assert!(page.iter().all(|entry| entry.cookie >= *old));
    open.close();
}
