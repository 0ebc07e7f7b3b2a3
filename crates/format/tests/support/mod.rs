//! What the format tests share: golden files and the number of random cases.

use std::path::PathBuf;

/// Number of random cases: `usual`, times `VERFS_TEST_FACTOR` if that is set.
pub fn cases(usual: u32) -> u32 {
    let factor = std::env::var("VERFS_TEST_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual.saturating_mul(factor)
}

/// Where a golden file is.
pub fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares bytes with a golden file. With `VERFS_BLESS=1` the file is written instead: only for a new format version,
/// never to make this pass.
pub fn check_golden(name: &str, bytes: &[u8]) {
    let path = golden_path(name);
    if std::env::var_os("VERFS_BLESS").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(golden == bytes, "{} differs from what is written now:\n{bytes:02x?}", path.display());
}
