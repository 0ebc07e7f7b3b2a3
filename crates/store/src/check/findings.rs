//! What a check found, and what would mend it.

use verfs_base::PackId;
use verfs_meta::WriteBatch;

/// Findings that are listed; all are counted.
const LISTED_MAX: usize = 10_000;
/// Bytes of changes that one round of repair makes; the next round makes the others.
const ROUND_MAX_BYTES: usize = 32 << 20;

/// Whether something that was found can be mended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mending {
    /// It can be, and was not yet.
    Mendable,
    /// It was.
    Mended,
    /// It can't be: what is lost is lost.
    Left,
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Stable, for programs: `link-count`.
    pub code: &'static str,
    /// Which record, file or pack.
    pub place: String,
    /// What is wrong with it.
    pub detail: String,
    /// Whether it can be mended.
    pub mending: Mending,
}

/// What mends something. Each is made whole or not at all, and can be made again.
#[derive(Debug)]
pub enum Mend {
    /// Changes of the metadata.
    Records(WriteBatch),
    /// The index of a pack is made of its records.
    Index(PackId),
    /// The intent log is kept in `damaged/`.
    Log,
}

/// What a check found so far.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Finding>,
    mends: Vec<Mend>,
    mend_bytes: usize,
    mendable: u64,
    left: u64,
}

impl Findings {
    /// Something that can't be mended.
    pub fn left(&mut self, code: &'static str, place: impl Into<String>, detail: impl Into<String>) {
        self.left += 1;
        self.add(code, place.into(), detail.into(), Mending::Left);
    }

    /// Something that `mend` puts right.
    pub fn mendable(&mut self, code: &'static str, place: impl Into<String>, detail: impl Into<String>, mend: Mend) {
        self.mendable += 1;
        self.add(code, place.into(), detail.into(), Mending::Mendable);
        self.mend_bytes += match &mend {
            Mend::Records(batch) => batch.size_bytes(),
            Mend::Index(_) | Mend::Log => 0,
        };
        if self.mend_bytes <= ROUND_MAX_BYTES {
            self.mends.push(mend);
        }
    }

    /// Something that changes of the metadata put right.
    pub fn records(
        &mut self,
        code: &'static str,
        place: impl Into<String>,
        detail: impl Into<String>,
        fill: impl FnOnce(&mut WriteBatch),
    ) {
        let mut batch = WriteBatch::new();
        fill(&mut batch);
        self.mendable(code, place, detail, Mend::Records(batch));
    }

    fn add(&mut self, code: &'static str, place: String, detail: String, mending: Mending) {
        tracing::debug!(code, place, detail, ?mending, "check");
        if self.list.len() < LISTED_MAX {
            self.list.push(Finding { code, place, detail, mending });
        }
    }

    /// Things that can be mended.
    #[must_use]
    pub fn mendable_count(&self) -> u64 {
        self.mendable
    }

    /// Things that can't.
    #[must_use]
    pub fn left_count(&self) -> u64 {
        self.left
    }

    /// The first of them.
    #[must_use]
    pub fn list(&self) -> &[Finding] {
        &self.list
    }

    /// Takes what another check found, but for what would mend it.
    pub fn append(&mut self, other: Findings) {
        self.mendable += other.mendable;
        self.left += other.left;
        let room = LISTED_MAX.saturating_sub(self.list.len());
        self.list.extend(other.list.into_iter().take(room));
    }

    /// What would mend them; the first ones, where they are too many for one round.
    #[must_use]
    pub fn take_mends(&mut self) -> Vec<Mend> {
        self.mend_bytes = 0;
        std::mem::take(&mut self.mends)
    }
}
