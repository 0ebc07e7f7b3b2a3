//! Whether the whole tree in the mount is the model's.

use rustix::fs::{Advice, OFlags};
use verfs_testkit::model::{Body, Id, Node};
use verfs_testkit::{Content, Target};

use crate::calls::read_at;
use crate::client::{Client, Freshness};

impl Client {
    /// Compares every inode, name, target and byte: first as the kernel has them, then as the volume has them.
    pub(crate) fn compare_tree(&mut self, when: &str) -> Result<(), String> {
        for freshness in [Freshness::Cached, Freshness::Asked] {
            let mut all: Vec<Id> = self.model.paths().into_iter().map(|(_, id)| id).collect();
            all.extend(self.slots.iter().flatten().map(|slot| slot.id));
            all.sort_unstable();
            all.dedup();
            for id in all {
                let Some(way) = self.way_to(id) else { continue };
                self.compare_inode(&format!("{when}, comparing {way} ({freshness:?})"), &way, id, freshness)?;
            }
        }
        Ok(())
    }

    fn compare_inode(&mut self, what: &str, way: &Target, id: Id, freshness: Freshness) -> Result<(), String> {
        let found = self.stat(way, freshness).map_err(|error| format!("{what}: {error:?}"))?;
        self.check_attr(what, id, &found)?;
        self.compare_attributes(what, way, id)?;
        let Ok(Node { body, nlink, .. }) = self.model.node(id).cloned() else { return Ok(()) };
        match body {
            Body::File(content) => self.compare_content(what, way, id, &content, freshness),
            Body::Directory { .. } if nlink > 0 => self.compare_listing(what, (way, id), 100, freshness),
            Body::Symlink(target) => {
                let Some(spot) = self.spot(way) else { return Ok(()) };
                let found = rustix::fs::readlinkat(spot.at, &spot.path, Vec::new());
                let found = found.map_err(|error| format!("{what}: {error:?}"))?;
                if found.to_bytes() != target {
                    return Err(format!("{what}: the link leads to {} bytes of something else", found.count_bytes()));
                }
                self.read(id);
                Ok(())
            }
            Body::Directory { .. } | Body::Device(_) => Ok(()),
        }
    }

    fn compare_content(
        &mut self,
        what: &str,
        way: &Target,
        id: Id,
        content: &Content,
        freshness: Freshness,
    ) -> Result<(), String> {
        let failed = |error| format!("{what}: {error:?}");
        let file = self.open(way, id, OFlags::RDONLY).map_err(failed)?;
        if freshness == Freshness::Asked {
            rustix::fs::fadvise(&file, 0, None, Advice::DontNeed).map_err(failed)?;
        }
        self.read(id);
        for (offset, len) in content.probes() {
            let found = read_at(&file, offset, len).map_err(failed)?;
            content.compare(offset, len, &found).map_err(|difference| format!("{what}: {difference}"))?;
        }
        Ok(())
    }
}
