//! The witness of the newest metadata: its bytes never change, and what was not written so is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use support::{cases, check_golden};
use verfs_format::DecodeError;
use verfs_format::witness::{WITNESS_SLOT_BYTES, decode_witness, encode_witness};

#[test]
fn version_1_is_what_it_was_when_it_was_released() {
    let slot = encode_witness(0x0102_0304_0506_0708);
    check_golden("witness.slot", &slot);
    assert_eq!(decode_witness(&slot), Ok(0x0102_0304_0506_0708));
}

#[test]
fn a_slot_with_a_flipped_bit_names_nothing() {
    let slot = encode_witness(77);
    for bit in 0..WITNESS_SLOT_BYTES * 8 {
        let mut spoilt = slot;
        spoilt[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_witness(&spoilt).is_err(), "bit {bit}");
    }
    assert_eq!(decode_witness(&[0; WITNESS_SLOT_BYTES]), Err(DecodeError::Checksum));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(200)))]

    #[test]
    fn a_slot_names_the_number_that_it_was_made_of(number: u64) {
        prop_assert_eq!(decode_witness(&encode_witness(number)), Ok(number));
    }
}
