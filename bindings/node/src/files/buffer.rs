//! Bytes between the engine and buffers of JavaScript.
#![allow(unsafe_code, reason = "an object of JavaScript has to be taken for a buffer again when its bytes have come")]

use bytes::Bytes;
use napi::Env;
use napi::bindgen_prelude::{BufferSlice, JsValue, Object, ObjectRef};

/// A buffer of JavaScript's that waits for bytes. Only its reference leaves the JavaScript thread: JavaScript may use
/// the buffer meanwhile, or give its memory away.
pub(super) struct Target(ObjectRef<false>);

/// The memory of a buffer, as it is now. Empty when it was given away.
fn bytes_of<'env>(object: &Object<'env>) -> napi::Result<BufferSlice<'env>> {
    // SAFETY: `cast` asks `napi_get_buffer_info` for pointer and length, which fails for whatever is no buffer.
    unsafe { object.to_unknown().cast::<BufferSlice<'env>>() }
}

impl Target {
    /// Keeps a buffer; with it comes its length. Only on the JavaScript thread.
    ///
    /// # Errors
    /// When the object is no buffer.
    pub(super) fn keep(object: &Object<'_>) -> napi::Result<(Self, u64)> {
        let len = bytes_of(object)?.len() as u64;
        Ok((Self(object.create_ref()?), len))
    }

    /// Puts bytes at the beginning of the buffer, as far as it still has room, and lets go of it. Returns how many. Only
    /// on the JavaScript thread.
    pub(super) fn fill(self, env: &Env, pieces: &[Bytes]) -> napi::Result<u32> {
        let mut filled = 0;
        {
            let object = self.0.get_value(env)?;
            let mut target = bytes_of(&object)?;
            for piece in pieces {
                let Some(room) = target.get_mut(filled..) else { break };
                let len = piece.len().min(room.len());
                room[..len].copy_from_slice(&piece[..len]);
                filled += len;
            }
        }
        self.0.unref(env)?;
        Ok(u32::try_from(filled).unwrap_or(u32::MAX))
    }
}

/// All pieces in one.
pub(super) fn concatenated(pieces: &[Bytes]) -> Vec<u8> {
    let mut all = Vec::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all
}
