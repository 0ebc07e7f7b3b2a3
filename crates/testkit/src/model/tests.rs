//! Rules that the model itself must not get wrong.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use verfs_vfs::{Allocation, NodeKind, RenameMode, XattrMode};

use super::*;
use crate::content::Fill;

fn model() -> Model {
    Model::new(Timestamp { seconds: 1, nanos: 0 }, 0o755)
}

fn at(dir: Id, name: &[u8]) -> Place<'_> {
    Place { dir, name }
}

fn file(model: &mut Model, dir: Id, name: &[u8]) -> Id {
    model.make_node(Who::ROOT, dir, name, NodeKind::Regular, 0o644).unwrap()
}

fn dir(model: &mut Model, parent: Id, name: &[u8]) -> Id {
    model.make_dir(Who::ROOT, parent, name, 0o755).unwrap()
}

fn refused<T: std::fmt::Debug>(answer: Answer<T>) -> Vec<VfsError> {
    answer.unwrap_err().0
}

#[test]
fn a_directory_counts_its_subdirectories_through_renames() {
    let mut model = model();
    let (a, b) = (dir(&mut model, ROOT, b"a"), dir(&mut model, ROOT, b"b"));
    let c = dir(&mut model, a, b"c");
    assert_eq!(model.node(ROOT).unwrap().nlink, 4);
    model.rename(at(a, b"c"), at(b, b"c"), RenameMode::Replace).unwrap();
    assert_eq!((model.node(a).unwrap().nlink, model.node(b).unwrap().nlink), (2, 3));
    assert_eq!(refused(model.rename(at(ROOT, b"b"), at(c, b"x"), RenameMode::Replace)), [VfsError::InvalidArgument]);
    model.rename(at(b, b"c"), at(ROOT, b"a"), RenameMode::Exchange).unwrap();
    assert_eq!(model.lookup(ROOT, b"a"), Ok(c));
    assert_eq!(model.lookup(b, b"c"), Ok(a));
    assert_eq!(model.node(ROOT).unwrap().nlink, 4);
}

#[test]
fn rename_obeys_kinds_and_modes() {
    let mut model = model();
    let (f, d) = (file(&mut model, ROOT, b"f"), dir(&mut model, ROOT, b"d"));
    let (from, to) = (at(ROOT, b"f"), at(ROOT, b"d"));
    assert_eq!(refused(model.rename(from, to, RenameMode::Replace)), [VfsError::IsDirectory]);
    assert_eq!(refused(model.rename(to, from, RenameMode::Replace)), [VfsError::NotDirectory]);
    assert_eq!(refused(model.rename(from, to, RenameMode::NoReplace)), [VfsError::Exists]);
    assert_eq!(refused(model.rename(from, at(ROOT, b"x"), RenameMode::Exchange)), [VfsError::NotFound]);
    model.rename(from, to, RenameMode::Exchange).unwrap();
    assert_eq!((model.lookup(ROOT, b"d"), model.lookup(ROOT, b"f")), (Ok(f), Ok(d)));
    file(&mut model, d, b"x");
    let e = dir(&mut model, ROOT, b"e");
    assert_eq!(refused(model.rename(at(ROOT, b"e"), at(ROOT, b"f"), RenameMode::Replace)), [VfsError::NotEmpty]);
    model.unlink(d, b"x").unwrap();
    model.rename(at(ROOT, b"e"), at(ROOT, b"f"), RenameMode::Replace).unwrap();
    assert_eq!(model.lookup(ROOT, b"f"), Ok(e));
    assert!(model.node(d).is_err());
}

#[test]
fn renaming_onto_another_link_of_the_file_does_nothing() {
    let mut model = model();
    let f = file(&mut model, ROOT, b"f");
    model.make_link(f, ROOT, b"g").unwrap();
    let before = model.clone();
    model.now.seconds += 1;
    model.rename(at(ROOT, b"f"), at(ROOT, b"g"), RenameMode::Replace).unwrap();
    assert_eq!(model.nodes, before.nodes);
}

#[test]
fn an_open_file_outlives_its_names_and_can_not_be_linked_again() {
    let mut model = model();
    let f = file(&mut model, ROOT, b"f");
    model.pin(f);
    model.unlink(ROOT, b"f").unwrap();
    model.write(Who::ROOT, f, 5, 3, Fill::Random(0)).unwrap();
    assert_eq!(model.node(f).unwrap().size(), 8);
    assert_eq!(refused(model.make_link(f, ROOT, b"g")), [VfsError::NotFound]);
    model.unpin(f);
    assert_eq!(refused(model.write(Who::ROOT, f, 0, 1, Fill::Zero)), [VfsError::NotFound]);
}

#[test]
fn a_removed_directory_takes_no_names() {
    let mut model = model();
    let d = dir(&mut model, ROOT, b"d");
    model.pin(d);
    model.remove_dir(ROOT, b"d").unwrap();
    assert_eq!(refused(model.make_dir(Who::ROOT, d, b"x", 0o755)), [VfsError::NotFound]);
    assert_eq!(model.node(d).unwrap().nlink, 0);
}

#[test]
fn set_id_bits_go_when_another_user_writes_and_when_anybody_changes_the_owner() {
    let mut model = model();
    let f = file(&mut model, ROOT, b"f");
    let mode = |model: &Model| model.node(f).unwrap().mode;
    model.set_attributes(Who::ROOT, f, Change::Mode(0o6755)).unwrap();
    model.write(Who::ROOT, f, 0, 1, Fill::Zero).unwrap();
    assert_eq!(mode(&model), 0o6755);
    model.write(Who::USER, f, 0, 0, Fill::Zero).unwrap();
    assert_eq!(mode(&model), 0o6755);
    model.write(Who::USER, f, 0, 1, Fill::Zero).unwrap();
    assert_eq!(mode(&model), 0o755);
    model.set_attributes(Who::ROOT, f, Change::Mode(0o6755)).unwrap();
    model.set_attributes(Who::ROOT, f, Change::Owner { uid: Some(5), gid: None }).unwrap();
    assert_eq!(mode(&model), 0o755);
}

#[test]
fn a_set_gid_directory_passes_its_group_on() {
    let mut model = model();
    let d = dir(&mut model, ROOT, b"d");
    model.set_attributes(Who::ROOT, d, Change::Owner { uid: None, gid: Some(9) }).unwrap();
    model.set_attributes(Who::ROOT, d, Change::Mode(0o2777)).unwrap();
    let sub = model.make_dir(Who::USER, d, b"sub", 0o755).unwrap();
    let f = model.make_node(Who::USER, sub, b"f", NodeKind::Regular, 0o644).unwrap();
    assert_eq!((model.node(sub).unwrap().mode, model.node(sub).unwrap().gid), (0o2755, 9));
    assert_eq!((model.node(f).unwrap().mode, model.node(f).unwrap().gid), (0o644, 9));
}

#[test]
fn names_and_ranges_have_limits() {
    let mut model = model();
    assert_eq!(refused(model.make_dir(Who::ROOT, ROOT, &[b'x'; 256], 0o755)), [VfsError::NameTooLong]);
    let f = file(&mut model, ROOT, &[b'x'; 255]);
    assert_eq!(refused(model.make_dir(Who::ROOT, f, &[b'x'; 256], 0o755)).len(), 2);
    let beyond = SIZE_MAX_BYTES;
    assert_eq!(refused(model.write(Who::ROOT, f, beyond, 1, Fill::Zero)), [VfsError::FileTooLarge]);
    assert_eq!(refused(model.set_attributes(Who::ROOT, f, Change::Size(beyond + 1))), [VfsError::FileTooLarge]);
    model.set_attributes(Who::ROOT, f, Change::Size(beyond)).unwrap();
}

fn list(shape: u8) -> Vec<u8> {
    crate::xattr::XattrValue::Acl(shape).bytes()
}

#[test]
fn a_default_list_takes_the_place_of_the_umask() {
    let mut model = model();
    let d = dir(&mut model, ROOT, b"d");
    // rw- for the owner, r-x for a user, r-- for the group, rwx for the mask, r-- for others.
    model.set_xattr(Who::ROOT, d, super::acl::DEFAULT, &list(2), XattrMode::Set).unwrap();
    let who = Who { umask: 0o777, ..Who::ROOT };
    let sub = model.make_dir(who, d, b"sub", 0o750).unwrap();
    let f = model.make_node(who, sub, b"f", NodeKind::Regular, 0o666).unwrap();
    assert_eq!((model.node(sub).unwrap().mode, model.node(f).unwrap().mode), (0o650, 0o664));
    assert_eq!(model.get_xattr(sub, super::acl::DEFAULT).unwrap(), list(2));
    assert_eq!(refused(model.get_xattr(f, super::acl::DEFAULT)), [VfsError::NoAttribute]);
    model.set_attributes(Who::ROOT, f, Change::Mode(0o700)).unwrap();
    let access = super::acl::Acl::parse(&model.get_xattr(f, super::acl::ACCESS).unwrap()).unwrap();
    assert_eq!((access.bits(), access.is_plain()), (0o700, false));
    let outside = model.make_node(Who { umask: 0o27, ..Who::ROOT }, ROOT, b"f", NodeKind::Regular, 0o666).unwrap();
    assert_eq!(model.node(outside).unwrap().mode, 0o640);
    model.set_xattr(Who::ROOT, outside, super::acl::ACCESS, &list(0), XattrMode::Set).unwrap();
    assert_eq!(model.node(outside).unwrap().mode, 0o750);
    assert!(model.node(outside).unwrap().xattrs.is_empty());
}

#[test]
fn immutable_and_append_only_inodes_refuse_what_they_are_for() {
    let mut model = model();
    let f = file(&mut model, ROOT, b"f");
    let append = FileFlags { append_only: true, ..FileFlags::default() };
    assert_eq!(refused(model.set_flags(Who::USER, f, append)), [VfsError::NotPermitted]);
    model.set_flags(Who::ROOT, f, append).unwrap();
    model.write(Who::ROOT, f, 0, 10, Fill::Random(0)).unwrap();
    let refusal = [VfsError::NotPermitted];
    assert_eq!(refused(model.write(Who::ROOT, f, 9, 1, Fill::Zero)), refusal);
    assert_eq!(refused(model.unlink(ROOT, b"f")), refusal);
    assert_eq!(refused(model.rename(at(ROOT, b"f"), at(ROOT, b"g"), RenameMode::Replace)), refusal);
    assert_eq!(refused(model.allocate(Who::ROOT, f, 0, 5, Allocation::PunchHole)), refusal);
    model.allocate(Who::ROOT, f, 0, 50, Allocation::Reserve).unwrap();
    let g = file(&mut model, ROOT, b"g");
    assert_eq!(refused(model.copy_range(Who::ROOT, (f, 0), (f, 5), 2)), refusal);
    assert_eq!(model.copy_range(Who::ROOT, (f, 0), (f, 50), 20), Ok(20));
    model.set_flags(Who::ROOT, ROOT, append).unwrap();
    file(&mut model, ROOT, b"h");
    assert_eq!(refused(model.unlink(ROOT, b"g")), refusal);
    model.set_flags(Who::ROOT, ROOT, FileFlags { immutable: true, ..append }).unwrap();
    assert_eq!(refused(model.make_link(g, ROOT, b"i")), refusal);
}
