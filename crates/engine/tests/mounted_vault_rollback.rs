//! A rollback of a mounted volume that has a vault: open, locked, and younger than the snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::FileExt;

use support::Mount;
use support::vault::{Secrets, names, sh, vault_mounts, with_vault};
use verfs_engine::{LOCK_GRACE, VaultCompression, VaultState};

/// Everything below a directory but snapshots and the vault: names, attributes, contents.
const LOOK: &str = "find . -mindepth 1 '(' -name .snapshots -o -path ./.vault ')' -prune -o -printf '%P %y %m %s %n %l %T@\n' \
     | sort; find . '(' -name .snapshots -o -path ./.vault ')' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum";

/// What the volume and its vault have at first.
const FILL: &str = "mkdir -p d/e; printf 'the first text' > file; seq 1 200000 > d/e/large; ln -s file link; ln file d/hard; \
     printf gone > gone; setfattr -n user.x -v y file; chmod 640 file; truncate -s 3M d/sparse; printf unlinked > unlinked";

/// What happens to both.
const CHANGE: &str = "printf 'another one' > file; seq 5 300000 > d/e/large; rm link gone; mkdir new; printf x > new/file; \
     mv d/sparse moved; chmod 600 d/hard; setfattr -n user.x -v z file";

fn open(mount: &Mount, name: &str) -> File {
    File::options().read(true).write(true).open(mount.path(name)).unwrap()
}

fn text_of(file: &mut File) -> std::io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

fn state_of(mount: &Mount) -> [String; 2] {
    ["", ".vault"].map(|part| sh(&mount.path(part), LOOK))
}

#[test]
fn a_rollback_takes_the_open_vault_along_and_what_is_open_shows_what_it_was() {
    let (mut mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    for part in ["", ".vault"] {
        sh(&mount.path(part), FILL);
    }
    let then = state_of(&mount);
    mount.volume().create_snapshot(b"then", b"").unwrap();
    for part in ["", ".vault"] {
        sh(&mount.path(part), CHANGE);
    }
    let later = state_of(&mount);
    mount.volume().create_snapshot(b"later", b"").unwrap();

    // In both, each kind of what may be open; and things that no snapshot has.
    let mut stays = ["file", ".vault/file"].map(|name| open(&mount, name));
    let mut goes = ["new/file", ".vault/new/file"].map(|name| open(&mount, name));
    let mut nameless = ["unlinked", ".vault/unlinked"].map(|name| open(&mount, name));
    let mut never = ["never", ".vault/never"].map(|name| {
        fs::write(mount.path(name), "never in a snapshot").unwrap();
        let file = open(&mount, name);
        fs::remove_file(mount.path(name)).unwrap();
        file
    });
    for (file, name) in nameless.iter_mut().zip(["unlinked", ".vault/unlinked"]) {
        fs::remove_file(mount.path(name)).unwrap();
        file.write_all_at(b"written without a name", 0).unwrap();
    }
    for file in stays.iter_mut().chain(&mut goes).chain(&mut nameless).chain(&mut never) {
        text_of(file).unwrap();
    }

    mount.volume().rollback(b"then").unwrap();

    assert_eq!(mount.volume().vault_status().unwrap().state, VaultState::Unlocked);
    assert_eq!(vault_mounts(&mount.path("")), 1);
    assert_eq!(state_of(&mount), then);
    for (file, name) in stays.iter_mut().zip(["file", ".vault/file"]) {
        assert_eq!(text_of(file).unwrap(), "the first text", "{name}");
        file.write_all_at(b"THE", 0).unwrap();
        assert_eq!(fs::read_to_string(mount.path(name)).unwrap(), "THE first text", "{name}");
    }
    for (file, name) in nameless.iter_mut().zip(["unlinked", ".vault/unlinked"]) {
        assert_eq!(text_of(file).unwrap(), "unlinked", "{name} has its name again");
    }
    for file in goes.iter_mut().chain(&mut never) {
        assert!(text_of(file).is_err() && file.write_all(b"y").is_err(), "it never was");
    }
    let past = |part: &str| sh(&mount.path(part).join(".snapshots/later"), LOOK);
    assert_eq!(["", ".vault"].map(past), later);
    drop((stays, goes, nameless, never));

    // The latter again, and it is durable.
    mount.volume().rollback(b"later").unwrap();
    assert_eq!(state_of(&mount), later);
    mount.remount();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(state_of(&mount), later);
}

#[test]
fn a_rollback_leaves_a_locked_vault_as_it_is() {
    let (mount, secrets) = with_vault();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    for part in ["", ".vault"] {
        sh(&mount.path(part), FILL);
    }
    let [then, _] = state_of(&mount);
    mount.volume().create_snapshot(b"then", b"").unwrap();
    for part in ["", ".vault"] {
        sh(&mount.path(part), CHANGE);
    }
    let [_, vault] = state_of(&mount);
    mount.volume().lock_vault(LOCK_GRACE).unwrap();
    mount.volume().rollback(b"then").unwrap();
    assert_eq!(mount.volume().vault_status().unwrap().state, VaultState::Locked);
    assert!(!names(&mount.path("")).contains(&".vault".to_owned()));
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    assert_eq!(state_of(&mount), [then.clone(), vault]);
    // Unlocked, it goes back, too.
    mount.volume().rollback(b"then").unwrap();
    assert_eq!(sh(&mount.path(""), LOOK), then);
    assert_eq!(fs::read_to_string(mount.path(".vault/file")).unwrap(), "the first text");
}

#[test]
fn a_rollback_to_before_there_was_a_vault_leaves_it() {
    let mount = Mount::new();
    let secrets = Secrets::new();
    fs::write(mount.path("file"), "one").unwrap();
    mount.volume().create_snapshot(b"before", b"").unwrap();
    fs::write(mount.path("file"), "two").unwrap();
    mount.volume().create_vault(&secrets.right(), VaultCompression::On).unwrap();
    mount.volume().unlock_vault(&secrets.right()).unwrap();
    fs::write(mount.path(".vault/file"), "secret").unwrap();
    mount.volume().rollback(b"before").unwrap();
    assert_eq!(fs::read_to_string(mount.path("file")).unwrap(), "one");
    assert_eq!(fs::read_to_string(mount.path(".vault/file")).unwrap(), "secret");
}
