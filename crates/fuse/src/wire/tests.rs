//! Requests of arbitrary bytes: nothing panics through, and each request has exactly one reply of the right form.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

#[path = "../../tests/support/memory_tree.rs"]
#[allow(dead_code, missing_docs, reason = "the tests with mounts look deeper")]
mod memory_tree;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use zerocopy::IntoBytes;

use self::memory_tree::MemoryTree;
use super::{Port, Server};
use crate::abi::{self, InHeader};
use crate::dispatch::{Dispatcher, Spared, test_machinery};
use crate::operation::Operation;
use crate::options::PermissionChecks;

/// Bytes of the structure that a request has between its header and names or data.
fn structure_bytes(operation: Operation) -> usize {
    match operation {
        Operation::Forget | Operation::BatchForget | Operation::Mkdir | Operation::Rename | Operation::Link => 8,
        Operation::Open | Operation::Opendir | Operation::Setxattr | Operation::Getxattr | Operation::Listxattr => 8,
        Operation::Access => 8,
        Operation::Getattr | Operation::Mknod | Operation::Rename2 | Operation::Fsync | Operation::Fsyncdir => 16,
        Operation::Statx | Operation::Lseek => 24,
        Operation::Fallocate | Operation::Ioctl => 32,
        Operation::Read | Operation::Write | Operation::Readdir | Operation::Readdirplus => 40,
        Operation::CopyFileRange | Operation::CopyFileRange64 => 56,
        Operation::Setattr => 88,
        _ => 0,
    }
}

/// Bytes that a reply without error must have; `None` where that depends.
fn reply_bytes(operation: Operation) -> Option<usize> {
    match operation {
        Operation::Lookup | Operation::Mknod | Operation::Mkdir | Operation::Symlink | Operation::Link => {
            Some(size_of::<abi::EntryOut>())
        }
        Operation::Getattr | Operation::Setattr => Some(size_of::<abi::AttrOut>()),
        Operation::Statx => Some(size_of::<abi::StatxOut>()),
        Operation::Open | Operation::Opendir => Some(size_of::<abi::OpenOut>()),
        Operation::Write | Operation::CopyFileRange | Operation::CopyFileRange64 | Operation::Lseek => Some(8),
        Operation::Statfs => Some(size_of::<abi::StatfsOut>()),
        Operation::Unlink | Operation::Rmdir | Operation::Rename | Operation::Rename2 | Operation::Fsync => Some(0),
        _ => None,
    }
}

fn has_reply(opcode: u32) -> bool {
    let silent = [Operation::Forget, Operation::BatchForget, Operation::NotifyReply];
    Operation::of_opcode(opcode).is_none_or(|operation| !silent.contains(&operation))
}

type Replies = Arc<Mutex<HashMap<u64, Vec<(i32, usize)>>>>;

/// Writes down what it is given.
struct Recorder {
    unique: u64,
    replies: Replies,
}

impl Port for Recorder {
    fn send(self, errno: i32, head: &[u8], data: &[Bytes]) {
        let len = head.len() + data.iter().map(Bytes::len).sum::<usize>();
        self.replies.lock().unwrap().entry(self.unique).or_default().push((errno, len));
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..8_u64, 2 => 0..1_u64 << 17, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &["a", "b", "c", "d", "panic", "later", ".", "..", "", "a/b"];
    prop_oneof![
        8 => prop::sample::select(KNOWN).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

/// What happens to a request on its way.
#[derive(Clone, Debug)]
enum Mutation {
    Nothing,
    Cut(Index),
    Flip(Index, u8),
}

/// A request but for its unique number.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        12 => prop::sample::select(Operation::ALL).prop_map(Operation::opcode),
        1 => any::<u32>(),
    ];
    let mutation = prop_oneof![
        6 => Just(Mutation::Nothing),
        1 => any::<Index>().prop_map(Mutation::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
    ];
    let words = prop::collection::vec(number(), 11);
    let body = (words, prop::collection::vec(name(), 2), prop::collection::vec(any::<u8>(), 0..64));
    (opcode, number(), 0..3_u32, body, mutation).prop_map(|(opcode, nodeid, uid, (words, names, data), mutation)| {
        let structure = Operation::of_opcode(opcode).map_or(0, structure_bytes);
        let mut rest = words.as_bytes()[..structure].to_vec();
        for name in names {
            rest.extend(name);
            rest.push(0);
        }
        rest.extend(data);
        match mutation {
            Mutation::Nothing => {}
            Mutation::Cut(at) => rest.truncate(at.index(rest.len() + 1)),
            Mutation::Flip(_, _) if rest.is_empty() => {}
            Mutation::Flip(at, bits) => {
                let at = at.index(rest.len());
                rest[at] ^= bits;
            }
        }
        let len = (size_of::<InHeader>() + rest.len()) as u32;
        let header = InHeader { len, opcode, nodeid, uid, ..InHeader::default() };
        [header.as_bytes(), &rest].concat()
    })
}

/// Serves all of it, and gives the replies once every thread has finished.
fn serve(requests: &[Vec<u8>], spared: Spared) -> HashMap<u64, Vec<(i32, usize)>> {
    let mut tree = MemoryTree::new();
    tree.file_max_bytes = 1 << 16;
    let machinery = test_machinery();
    let dispatcher = Arc::new(Dispatcher::new(Arc::new(tree), machinery.clone()));
    let server = Server::new(dispatcher, spared, PermissionChecks::Private);
    let replies = Replies::default();
    for (index, bytes) in requests.iter().enumerate() {
        let waiting = server.serve_bytes(bytes, |_| Recorder { unique: index as u64, replies: replies.clone() });
        // As a leader does, some here and some by others.
        match (waiting, index % 2) {
            (Some(waiting), 0) => server.perform(waiting),
            (Some(waiting), _) => server.queue(waiting),
            (None, _) => {}
        }
    }
    machinery.lanes.stop();
    let replies = replies.lock().unwrap();
    replies.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_request_has_one_reply_of_its_form(
        requests in prop::collection::vec(request(), 1..200),
        spared in any::<bool>(),
    ) {
        let replies = serve(&requests, Spared { open: spared, opendir: spared });
        for (index, bytes) in requests.iter().enumerate() {
            let opcode = u32::from_ne_bytes(*bytes[4..].first_chunk().unwrap());
            let sent = replies.get(&(index as u64)).map_or(&[][..], Vec::as_slice);
            if !has_reply(opcode) {
                prop_assert_eq!(sent, &[]);
                continue;
            }
            let [(errno, len)] = sent else { panic!("{opcode}: {sent:?}") };
            prop_assert!((0..4096).contains(errno), "{}: errno {}", opcode, errno);
            let expected = match (*errno, Operation::of_opcode(opcode)) {
                (0, Some(operation)) => reply_bytes(operation),
                (0, None) => panic!("an unknown opcode was answered"),
                _ => Some(0),
            };
            prop_assert!(expected.is_none_or(|expected| expected == *len), "{}: {} bytes", opcode, len);
        }
    }

    #[test]
    fn arbitrary_bytes_have_at_most_one_reply(requests in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..200), 1..50,
    )) {
        let replies = serve(&requests, Spared::default());
        for (index, sent) in &replies {
            prop_assert!(sent.len() == 1 && requests[*index as usize].len() >= size_of::<InHeader>());
        }
    }
}
