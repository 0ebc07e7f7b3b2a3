//! `volume.toml`: what was written is read back, and nothing else is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use support::{cases, check_golden};
use verfs_base::Timestamp;
use verfs_format::superblock::{ID_SECRET_BYTES, Superblock, SuperblockError};

fn sample() -> Superblock {
    let mut id_secret = [0; ID_SECRET_BYTES];
    for (position, byte) in id_secret.iter_mut().enumerate() {
        *byte = (position * 7 + 3) as u8;
    }
    Superblock {
        uuid: [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4d, 0xef, 0x81, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef],
        created: Timestamp { seconds: 1_795_257_547, nanos: 123_456_789 },
        metadata_engine: "surrealkv".to_owned(),
        chunker: "mincdc".to_owned(),
        chunk_min_bytes: 16 << 10,
        chunk_mean_bytes: 32 << 10,
        chunk_max_bytes: 48 << 10,
        id_secret,
    }
}

fn damage_of(text: &[u8]) -> String {
    match Superblock::decode(text) {
        Err(SuperblockError::Damaged { reason }) => reason,
        other => panic!("expected damage, got {other:?}"),
    }
}

#[test]
fn version_1_is_what_it_was_when_it_was_released() {
    check_golden("volume.toml", sample().encode().as_bytes());
    let golden = std::fs::read(support::golden_path("volume.toml")).unwrap();
    assert_eq!(Superblock::decode(&golden).unwrap(), sample());
}

#[test]
fn the_creation_time_is_the_one_that_people_read() {
    assert!(sample().encode().contains("created = 2026-11-21T10:39:07.123456789Z\n"), "{}", sample().encode());
    for (seconds, date) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_399, "2000-02-28T23:59:59"),
        (951_782_400, "2000-02-29T00:00:00"),
        (951_868_800, "2000-03-01T00:00:00"),
        (4_107_542_400, "2100-03-01T00:00:00"),
        (253_402_300_799, "9999-12-31T23:59:59"),
        (i64::MAX, "9999-12-31T23:59:59"),
        (i64::MIN, "1970-01-01T00:00:00"),
    ] {
        let block = Superblock { created: Timestamp { seconds, nanos: 0 }, ..sample() };
        assert!(block.encode().contains(&format!("created = {date}.000000000Z\n")), "{seconds}: {}", block.encode());
        let back = Superblock::decode(block.encode().as_bytes()).unwrap().created;
        assert_eq!(back.seconds, seconds.clamp(0, 253_402_300_799));
    }
}

#[test]
fn comments_order_and_spacing_may_change() {
    let mut lines: Vec<String> = sample().encode().lines().map(str::to_owned).collect();
    lines.reverse();
    let text = format!("# moved to another machine\n\n{}", lines.join("  \n\n").replace(" = ", "="));
    assert_eq!(Superblock::decode(text.as_bytes()).unwrap(), sample());
}

#[test]
fn a_newer_format_is_named_even_when_the_rest_means_nothing_to_us() {
    let text = "format = 7\nshape = \"round\"\n[packs]\nkind = \"tape\"\n";
    assert_eq!(Superblock::decode(text.as_bytes()), Err(SuperblockError::Newer { found: 7 }));
    let message = SuperblockError::Newer { found: 7 }.to_string();
    assert!(message.contains('7') && message.contains("format 1"), "{message}");
}

#[test]
fn each_kind_of_damage_is_named() {
    let text = sample().encode();
    assert!(damage_of(b"\xff\xfe").contains("UTF-8"));
    assert!(damage_of(b"").contains("format"));
    assert!(damage_of(b"format = 0\n").contains("format 0"));
    assert!(damage_of(&text.as_bytes()[..text.len() / 2]).contains("string"));
    assert!(damage_of(text.replace("mincdc", "fastcdc").as_bytes()).contains("checksum"));
    assert!(damage_of(text.replace("chunker = \"mincdc\"\n", "").as_bytes()).contains("chunker"));
    assert!(damage_of(format!("{text}colour = \"red\"\n").as_bytes()).contains("colour"));
    assert!(damage_of(text.replace("id_secret = \"03", "id_secret = \"").as_bytes()).contains("id_secret"));
}

#[test]
fn the_secret_is_in_no_message_and_no_debug_output() {
    let text = sample().encode();
    let secret = text.lines().find_map(|line| line.strip_prefix("id_secret = \"")).unwrap().trim_end_matches('"');
    let broken = text.replace(&secret[100..], "zz\"\"");
    assert!(!damage_of(broken.as_bytes()).contains(&secret[..16]));
    assert!(!format!("{:?}", sample()).contains(&secret[..16]));
    assert!(!format!("{:?}", sample()).contains("3, 10, 17"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(300)))]

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Superblock::decode(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_never_changes_a_value(position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = sample().encode().into_bytes();
        let position = position.index(text.len());
        text[position] = byte;
        if let Ok(read) = Superblock::decode(&text) {
            prop_assert_eq!(read, sample());
        }
    }

    #[test]
    fn any_values_come_back(
        uuid in any::<[u8; 16]>(), seconds in 0i64..=253_402_300_799, nanos in 0u32..1_000_000_000,
        engine in "\\PC{0,20}", chunker in "[a-z\"\\\\\n]{0,20}", sizes in any::<[u32; 3]>(),
        secret in proptest::collection::vec(any::<u8>(), ID_SECRET_BYTES),
    ) {
        let block = Superblock {
            uuid, created: Timestamp { seconds, nanos }, metadata_engine: engine, chunker,
            chunk_min_bytes: sizes[0], chunk_mean_bytes: sizes[1], chunk_max_bytes: sizes[2],
            id_secret: secret.try_into().unwrap(),
        };
        prop_assert_eq!(Superblock::decode(block.encode().as_bytes()).unwrap(), block);
    }
}
