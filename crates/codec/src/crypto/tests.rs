//! The primitives as their specifications say, and what a seal is bound to.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::{any, proptest};
use verfs_base::{Clock, OsRng, Rng, SystemClock, Timestamp};

use super::password::argon2id;
use super::seal::{Binding, NONCE_BYTES, open, seal};
use super::{
    CryptoError, GENERATIONS_MAX, KeyMaterial, PasswordCost, SEAL_OVERHEAD_BYTES, SealClass, VaultKeys, WrappingKey,
};

const VOLUME: [u8; 16] = [9; 16];
const CLASSES: [SealClass; 6] =
    [SealClass::Keys, SealClass::Chunk, SealClass::Name, SealClass::Record, SealClass::Inline, SealClass::Log];

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn keys() -> VaultKeys {
    VaultKeys::new(&KeyMaterial::generate(&OsRng).unwrap(), VOLUME, Arc::new(OsRng))
}

/// RFC 9106, section 5.3.
#[test]
fn argon2id_is_that_of_rfc_9106() {
    let cost = PasswordCost { memory_kib: 32, passes: 3, lanes: 4 };
    let mut tag = [0; 32];
    argon2id(&[1; 32], &[2; 16], &[3; 8], &[4; 12], cost, &mut tag).unwrap();
    let expected = "0d 64 0d f5 8d 78 76 6c 08 c0 37 a3 4a 8b 53 c9 d0 1e f0 45 2d 75 b6 5e b5 25 20 e9 6b 01 e6 59";
    assert_eq!(tag.as_slice(), from_hex(expected));
}

/// Gives the nonce of a test vector.
#[derive(Debug)]
struct Fixed(Vec<u8>);

impl Rng for Fixed {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(&self.0);
        Ok(())
    }
}

/// draft-irtf-cfrg-xchacha-03, appendix A.3.1: with its key and nonce. Its associated data is not one that we can have,
/// so the cipher is compared on the library that we call.
#[test]
fn xchacha20_poly1305_is_that_of_the_draft() {
    use chacha20poly1305::aead::{Aead, Payload};
    use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                  sunscreen would be it.";
    let key: [u8; 32] =
        from_hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f").try_into().unwrap();
    let nonce: [u8; 24] = from_hex("404142434445464748494a4b4c4d4e4f5051525354555657").try_into().unwrap();
    let associated = from_hex("50515253c0c1c2c3c4c5c6c7");
    let expected = from_hex(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54\
         c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f6\
         15c68b13b52ec0875924c1c7987947deafd8780acf49",
    );
    let payload = Payload { msg: plain, aad: &associated };
    assert_eq!(XChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), payload).unwrap(), expected);

    // And what we make of it is the same cipher: nonce and ciphertext are where the diagram says.
    let binding = Binding { class: SealClass::Chunk, volume: &VOLUME, generation: 7, context: b"x" };
    let mut sealed = Vec::new();
    seal(&key, &binding, &Fixed(nonce.to_vec()), plain, &mut sealed).unwrap();
    let mut associated = vec![2];
    associated.extend_from_slice(&VOLUME);
    associated.extend_from_slice(&[7, 0, 0, 0, b'x']);
    let payload = Payload { msg: plain, aad: &associated };
    let ciphertext = XChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), payload).unwrap();
    assert_eq!(sealed, [[7, 0, 0, 0].as_slice(), &nonce, &ciphertext].concat());
    assert_eq!(open(&key, &binding, &sealed).unwrap(), plain);
}

/// BLAKE3 team, test_vectors/test_vectors.json: key `whats the Elvish word for friend`, input of 0, 1 and 1024 bytes
/// that count from 0 to 250 again and again.
#[test]
fn keyed_blake3_is_that_of_its_authors() {
    let key = b"whats the Elvish word for friend";
    let input: Vec<u8> = (0..1024_u32).map(|at| (at % 251) as u8).collect();
    for (len, expected) in [
        (0, "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"),
        (1, "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b"),
        (1024, "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4"),
    ] {
        assert_eq!(blake3::keyed_hash(key, &input[..len]).as_bytes().as_slice(), from_hex(expected), "{len}");
    }
    let derived = blake3::derive_key("BLAKE3 2019-12-27 16:29:52 test vectors context", &input[..1]);
    assert_eq!(derived.as_slice(), from_hex("b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c"));
}

#[test]
fn no_two_seals_of_a_vault_have_the_same_nonce() {
    let keys = keys();
    let mut nonces = HashSet::new();
    let mut sealed = Vec::new();
    for at in 0..200_000_u32 {
        sealed.clear();
        keys.seal(CLASSES[at as usize % CLASSES.len()], b"the same", b"the same", &mut sealed).unwrap();
        assert!(nonces.insert(sealed[4..4 + NONCE_BYTES].to_vec()), "seal {at} repeats a nonce");
    }
}

proptest! {
    #[test]
    fn a_seal_opens_only_as_what_it_is_and_where_it_belongs(
        plain in proptest::collection::vec(any::<u8>(), 0..300),
        context in proptest::collection::vec(any::<u8>(), 0..40),
        class in 0..CLASSES.len(),
        flip in any::<proptest::sample::Index>(),
    ) {
        let (keys, class) = (keys(), CLASSES[class]);
        let mut sealed = Vec::new();
        keys.seal(class, &context, &plain, &mut sealed).unwrap();
        assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD_BYTES);
        assert_eq!(keys.open(class, &context, &sealed).as_ref(), Ok(&plain));
        let mut place = sealed.clone();
        assert_eq!(keys.open_in_place(class, &context, &mut place), Ok(plain.as_slice()));
        let elsewhere = [context.as_slice(), b"x"].concat();
        assert!(keys.open(class, &elsewhere, &sealed).is_err());
        for other in CLASSES.into_iter().filter(|other| *other != class) {
            assert!(keys.open(other, &context, &sealed).is_err(), "{class:?} opened as {other:?}");
        }
        let mut changed = sealed.clone();
        changed[flip.index(sealed.len())] ^= 1;
        assert!(keys.open(class, &context, &changed).is_err());
        let mut place = changed.clone();
        assert!(keys.open_in_place(class, &context, &mut place).is_err());
        assert_eq!(place, changed);
        assert!(keys.open(class, &context, &sealed[..flip.index(sealed.len())]).is_err());
    }
}

#[test]
fn another_volume_or_another_vault_opens_nothing() {
    let material = KeyMaterial::generate(&OsRng).unwrap();
    let here = VaultKeys::new(&material, VOLUME, Arc::new(OsRng));
    let elsewhere = VaultKeys::new(&material, [8; 16], Arc::new(OsRng));
    let mut sealed = Vec::new();
    here.seal(SealClass::Chunk, b"id", b"bytes", &mut sealed).unwrap();
    assert_eq!(elsewhere.open(SealClass::Chunk, b"id", &sealed), Err(CryptoError::Unsealable));
    assert_eq!(keys().open(SealClass::Chunk, b"id", &sealed), Err(CryptoError::Unsealable));
}

#[test]
fn ids_are_of_the_vault_and_names_of_their_directory() {
    let (ours, others) = (keys(), keys());
    assert_eq!(ours.chunk_id(b"bytes"), ours.chunk_id(b"bytes"));
    assert_ne!(ours.chunk_id(b"bytes"), others.chunk_id(b"bytes"));
    assert_ne!(ours.name_hash(1, b"name"), ours.name_hash(2, b"name"));
    assert_ne!(ours.name_hash(1, b"name"), ours.chunk_id(b"name"));
}

#[test]
fn a_new_data_key_seals_keeps_ids_and_opens_what_the_old_one_sealed_until_it_is_retired() {
    let mut material = KeyMaterial::generate(&OsRng).unwrap();
    let before = VaultKeys::new(&material, VOLUME, Arc::new(OsRng));
    let mut old = Vec::new();
    before.seal(SealClass::Record, b"k", b"v", &mut old).unwrap();
    material.add_generation(&OsRng).unwrap();
    let during = VaultKeys::new(&material, VOLUME, Arc::new(OsRng));
    assert_eq!(during.chunk_id(b"x"), before.chunk_id(b"x"));
    assert_eq!(during.name_hash(3, b"x"), before.name_hash(3, b"x"));
    assert_eq!(during.open(SealClass::Record, b"k", &old).unwrap(), b"v");
    let mut new = Vec::new();
    during.seal(SealClass::Record, b"k", b"v", &mut new).unwrap();
    assert_eq!(VaultKeys::generation_of(&new), Ok(2));
    assert_eq!(before.open(SealClass::Record, b"k", &new), Err(CryptoError::UnknownKey { generation: 2 }));
    material.retire_generations();
    let after = VaultKeys::new(&material, VOLUME, Arc::new(OsRng));
    assert_eq!(after.open(SealClass::Record, b"k", &old), Err(CryptoError::UnknownKey { generation: 1 }));
    assert_eq!(after.open(SealClass::Record, b"k", &new).unwrap(), b"v");
    while material.generations().count() < GENERATIONS_MAX {
        material.add_generation(&OsRng).unwrap();
    }
    assert!(matches!(material.add_generation(&OsRng), Err(CryptoError::Keys(_))));
}

#[test]
fn wrapped_keys_come_back_with_the_password_the_key_file_the_volume_and_the_context_only() {
    let cost = PasswordCost { memory_kib: 64, passes: 1, lanes: 1 };
    let derive = |password: &[u8], file: u8, salt: u8, volume: [u8; 16]| {
        WrappingKey::derive(password, &[file; 32], &[salt; 16], &volume, cost).unwrap()
    };
    let material = KeyMaterial::generate(&OsRng).unwrap();
    let wrapped = derive(b"pw", 1, 2, VOLUME).wrap(&material, &VOLUME, b"head", &OsRng).unwrap();
    assert_eq!(derive(b"pw", 1, 2, VOLUME).unwrap(&wrapped, &VOLUME, b"head").unwrap(), material);
    for wrong in [derive(b"pW", 1, 2, VOLUME), derive(b"pw", 2, 2, VOLUME), derive(b"pw", 1, 3, VOLUME)] {
        assert_eq!(wrong.unwrap(&wrapped, &VOLUME, b"head").unwrap_err(), CryptoError::Unsealable);
    }
    let right = derive(b"pw", 1, 2, VOLUME);
    assert_eq!(right.unwrap(&wrapped, &[8; 16], b"head").unwrap_err(), CryptoError::Unsealable);
    assert_eq!(right.unwrap(&wrapped, &VOLUME, b"Head").unwrap_err(), CryptoError::Unsealable);
}

#[test]
fn forgotten_keys_open_and_seal_nothing_whoever_holds_them() {
    let keys = Arc::new(keys());
    let held = Arc::clone(&keys);
    let mut sealed = Vec::new();
    keys.seal(SealClass::Record, b"k", b"v", &mut sealed).unwrap();
    keys.forget();
    assert_eq!(held.open(SealClass::Record, b"k", &sealed), Err(CryptoError::UnknownKey { generation: 1 }));
    assert_eq!(held.seal(SealClass::Record, b"k", b"v", &mut sealed), Err(CryptoError::Keys("none")));
}

/// A clock on which everything takes so many milliseconds.
#[derive(Debug)]
struct Steps(u64, AtomicU64);

impl Clock for Steps {
    fn now(&self) -> Timestamp {
        SystemClock::new().now()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0 * self.1.fetch_add(1, Ordering::Relaxed))
    }
}

#[test]
fn costs_follow_the_machine_and_are_never_below_the_recommendation() {
    let cost_where_three_passes_take =
        |ms: u64| PasswordCost::calibrate(Duration::from_secs(1), &Steps(ms, AtomicU64::new(0))).unwrap();
    assert_eq!(cost_where_three_passes_take(10_000), PasswordCost::LEAST);
    assert_eq!(cost_where_three_passes_take(150), PasswordCost { passes: 20, ..PasswordCost::LEAST });
    assert_eq!(cost_where_three_passes_take(1).passes, 64);
    assert!(PasswordCost { memory_kib: u32::MAX, ..PasswordCost::LEAST }.check().is_err());
}
