//! Sealed bytes: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random nonce.
//!
//! ```text
//! seal     generation 4, little-endian: which data key | nonce 24 | ciphertext | tag 16
//! bound to class 1 | volume uuid 16 | generation 4 | context
//! ```
//! A random nonce of 192 bits may be drawn 2^80 times with one key before two are equal with a chance of 2^-32.

use std::ops::Range;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use verfs_base::Rng;

use super::stack::{SMALL, wiped};
use super::{CryptoError, KEY_BYTES};

/// Bytes of the number of a data key.
pub(super) const GENERATION_BYTES: usize = 4;
/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 24;
/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;
/// What sealed bytes have more than the plain ones.
pub const SEAL_OVERHEAD_BYTES: usize = GENERATION_BYTES + NONCE_BYTES + TAG_BYTES;

/// What is sealed: a seal of one class never opens as one of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SealClass {
    /// The keys themselves, by the key of a password.
    Keys = 1,
    /// A chunk in a pack; context: its id.
    Chunk = 2,
    /// A name in a directory; context: the key of its record.
    Name = 3,
    /// A record whole, such as a symlink's target or extended attributes; context: its key.
    Record = 4,
    /// Bytes of a small file in the record of a segment; context: its key.
    Inline = 5,
    /// A frame of the intent log; context: its header.
    Log = 6,
}

/// What a seal is bound to beside its class.
pub(super) struct Binding<'a> {
    pub(super) class: SealClass,
    pub(super) volume: &'a [u8; 16],
    pub(super) generation: u32,
    pub(super) context: &'a [u8],
}

impl Binding<'_> {
    fn associated_data(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(1 + self.volume.len() + GENERATION_BYTES + self.context.len());
        data.push(self.class as u8);
        data.extend_from_slice(self.volume);
        data.extend_from_slice(&self.generation.to_le_bytes());
        data.extend_from_slice(self.context);
        data
    }
}

/// Appends the seal of `plain` to `out`.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    binding: &Binding<'_>,
    rng: &dyn Rng,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill(&mut nonce).map_err(|error| CryptoError::NoRandomness(error.to_string()))?;
    out.reserve(SEAL_OVERHEAD_BYTES + plain.len());
    out.extend_from_slice(&binding.generation.to_le_bytes());
    out.extend_from_slice(&nonce);
    let start = out.len();
    out.extend_from_slice(plain);
    let tag = wiped::<SMALL, _>(|| encrypt(key, binding, &nonce, &mut out[start..]))?;
    out.extend_from_slice(&tag);
    Ok(())
}

fn encrypt(
    key: &[u8; KEY_BYTES],
    binding: &Binding<'_>,
    nonce: &[u8; NONCE_BYTES],
    text: &mut [u8],
) -> Result<[u8; TAG_BYTES], CryptoError> {
    XChaCha20Poly1305::new(&(*key).into())
        .encrypt_inout_detached(&(*nonce).into(), &binding.associated_data(), text.into())
        .map(Into::into)
        // Only more than 256 GiB can't be sealed.
        .map_err(|_| CryptoError::Unsealable)
}

/// Number of the data key of a seal.
pub(super) fn generation_of(sealed: &[u8]) -> Result<u32, CryptoError> {
    let bytes = sealed.first_chunk::<GENERATION_BYTES>().ok_or(CryptoError::Unsealable)?;
    Ok(u32::from_le_bytes(*bytes))
}

/// The plain bytes of a seal.
pub(super) fn open(key: &[u8; KEY_BYTES], binding: &Binding<'_>, sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (nonce, ciphertext, tag) = parts(sealed).ok_or(CryptoError::Unsealable)?;
    let mut plain = sealed[ciphertext].to_vec();
    wiped::<SMALL, _>(|| decrypt(key, binding, (&nonce, &tag), &mut plain))?;
    Ok(plain)
}

/// As [`open`], in the place of the seal, which is left as it was when it can't be opened.
pub(super) fn open_in_place<'s>(
    key: &[u8; KEY_BYTES],
    binding: &Binding<'_>,
    sealed: &'s mut [u8],
) -> Result<&'s [u8], CryptoError> {
    let (nonce, ciphertext, tag) = parts(sealed).ok_or(CryptoError::Unsealable)?;
    let text = &mut sealed[ciphertext];
    wiped::<SMALL, _>(|| decrypt(key, binding, (&nonce, &tag), text))?;
    Ok(text)
}

/// Nonce, where the ciphertext is, and tag.
fn parts(sealed: &[u8]) -> Option<([u8; NONCE_BYTES], Range<usize>, [u8; TAG_BYTES])> {
    let (nonce, body) = sealed.get(GENERATION_BYTES..)?.split_first_chunk::<NONCE_BYTES>()?;
    let (ciphertext, tag) = body.split_last_chunk::<TAG_BYTES>()?;
    let start = GENERATION_BYTES + NONCE_BYTES;
    Some((*nonce, start..start + ciphertext.len(), *tag))
}

/// The tag is looked at first: what it doesn't fit is not changed.
fn decrypt(
    key: &[u8; KEY_BYTES],
    binding: &Binding<'_>,
    (nonce, tag): (&[u8; NONCE_BYTES], &[u8; TAG_BYTES]),
    text: &mut [u8],
) -> Result<(), CryptoError> {
    XChaCha20Poly1305::new(&(*key).into())
        .decrypt_inout_detached(&(*nonce).into(), &binding.associated_data(), text.into(), &(*tag).into())
        .map_err(|_| CryptoError::Unsealable)
}
