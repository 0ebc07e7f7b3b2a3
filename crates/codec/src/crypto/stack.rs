//! Nothing of keys and plain bytes stays on the stack: ciphers and hashes leave blocks, subkeys and keyed states there, and
//! a C library keeps the stacks of threads that ended.

use zeroize::Zeroize;

/// Words of 8 bytes of the stack that work on a record takes at most, with some to spare.
pub(super) const SMALL: usize = 512;
/// The same of work on a chunk, whose hash is a tree.
pub(super) const LARGE: usize = 2048;

/// Does `work`, and wipes so many words of the stack where it was done.
pub(super) fn wiped<const WORDS: usize, T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    wipe::<WORDS>();
    done
}

/// A frame of its own, so that everything of `work` is below that of the caller.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn wipe<const WORDS: usize>() {
    [0_u64; WORDS].as_mut_slice().zeroize();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Whether `needle` is on the stack of this thread.
    #[inline(never)]
    fn is_on_stack(needle: &[u8]) -> bool {
        let here = std::ptr::from_ref(&needle).addr() as u64;
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let range = maps.lines().find_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            (start..end).contains(&here).then_some((start, end))
        });
        let (start, end) = range.unwrap();
        let mut stack = vec![0; (end - start) as usize];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut stack, start).unwrap();
        stack.windows(needle.len()).any(|window| window == needle)
    }

    /// What leaves its argument where it was done: so deep that looking for it doesn't reach there.
    #[inline(never)]
    fn careless(secret: &[u8]) -> u8 {
        let mut copy = [0_u8; 3500];
        copy[..secret.len()].copy_from_slice(secret);
        std::hint::black_box(&mut copy)[7]
    }

    #[test]
    fn what_was_done_leaves_nothing_on_the_stack() {
        let secret: Vec<u8> = (0..32_u8).map(|byte| byte.wrapping_mul(37) ^ 0x5a).collect();
        let seen = |work: fn(&[u8]) -> u8| {
            let secret = secret.clone();
            std::thread::spawn(move || (work(&secret), is_on_stack(&secret)).1).join().unwrap()
        };
        assert!(seen(careless), "the test sees nothing");
        assert!(!seen(|secret| wiped::<SMALL, _>(|| careless(secret))));
    }
}
