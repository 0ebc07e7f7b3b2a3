//! The vault's records: golden bytes, round trips, damage.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod support;

use verfs_base::Timestamp;
use verfs_format::DecodeError;
use verfs_format::vault::{VaultCompression, VaultRecord, decode_key_file, encode_key_file};
use xxhash_rust::xxh3::xxh3_128;

fn record() -> VaultRecord {
    VaultRecord {
        created: Timestamp { seconds: 1_795_000_000, nanos: 123_456_789 },
        compression: VaultCompression::On,
        memory_kib: 65_536,
        passes: 3,
        lanes: 4,
        salt: [7; 16],
        wrapped: (0..133).collect(),
    }
}

fn key() -> [u8; 32] {
    std::array::from_fn(|at| at as u8 * 8)
}

#[test]
fn the_bytes_are_those_of_the_release() {
    support::check_golden("vault.keys", &record().encode());
    support::check_golden("vault.key", encode_key_file(&key()).as_bytes());
}

#[test]
fn records_come_back() {
    for record in [record(), VaultRecord { compression: VaultCompression::Off, passes: 64, ..record() }] {
        assert_eq!(VaultRecord::decode(&record.encode()), Ok(record));
    }
    assert_eq!(decode_key_file(encode_key_file(&key()).as_bytes()), Ok(key()));
    assert_eq!(decode_key_file(encode_key_file(&key()).replace('\n', "\r\n").as_bytes()), Ok(key()));
}

#[test]
fn whatever_is_decoded_has_one_encoding() {
    let any = (proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), 0..200_usize);
    let config = proptest::test_runner::Config { cases: support::cases(2000), ..Default::default() };
    proptest::test_runner::TestRunner::new(config)
        .run(&any, |(bytes, cut)| {
            // With a right checksum, so that the fields are looked at.
            let mut body = record().head();
            body.truncate(cut);
            body.extend_from_slice(&bytes);
            body.extend_from_slice(&xxh3_128(&body).to_le_bytes());
            if let Ok(decoded) = VaultRecord::decode(&body) {
                assert_eq!(decoded.encode(), body);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_changed_byte_of_the_wrapped_keys_is_damage() {
    let bytes = record().encode();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(VaultRecord::decode(&damaged), Err(DecodeError::Checksum), "byte {at}");
        assert!(VaultRecord::decode(&bytes[..at]).is_err());
    }
}

#[test]
fn a_key_file_with_another_digit_is_no_other_key() {
    let text = encode_key_file(&key());
    assert!(decode_key_file(text.replacen("08", "09", 1).as_bytes()).is_err());
    for broken in ["", "VerFS vault key file, version 1\n", "VerFS vault key file, version 2\n00\n00\n", "\u{e4}"] {
        assert!(decode_key_file(broken.as_bytes()).is_err(), "{broken:?}");
    }
    assert!(decode_key_file(&[0xff, 0xfe]).is_err());
}
