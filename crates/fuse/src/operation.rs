//! Names of the kernel's requests, for statistics and logs.

macro_rules! operations {
    ($($variant:ident = $name:literal,)*) => {
        /// A kind of request of the kernel, named as `linux/fuse.h` names its opcode.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Operation {
            $(#[doc = concat!("FUSE opcode `", $name, "`.")] $variant,)*
        }

        impl Operation {
            /// Every operation, in the order of its discriminant.
            pub const ALL: &'static [Operation] = &[$(Operation::$variant,)*];

            /// The name in lower case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Operation::$variant => $name,)*
                }
            }
        }
    };
}

operations! {
    Lookup = "lookup",
    Forget = "forget",
    Getattr = "getattr",
    Setattr = "setattr",
    Readlink = "readlink",
    Symlink = "symlink",
    Mknod = "mknod",
    Mkdir = "mkdir",
    Unlink = "unlink",
    Rmdir = "rmdir",
    Rename = "rename",
    Link = "link",
    Open = "open",
    Read = "read",
    Write = "write",
    Statfs = "statfs",
    Release = "release",
    Fsync = "fsync",
    Setxattr = "setxattr",
    Getxattr = "getxattr",
    Listxattr = "listxattr",
    Removexattr = "removexattr",
    Flush = "flush",
    Opendir = "opendir",
    Readdir = "readdir",
    Readdirplus = "readdirplus",
    Releasedir = "releasedir",
    Fsyncdir = "fsyncdir",
    Getlk = "getlk",
    Setlk = "setlk",
    Access = "access",
    Create = "create",
    Bmap = "bmap",
    Ioctl = "ioctl",
    Poll = "poll",
    Fallocate = "fallocate",
    Lseek = "lseek",
    CopyFileRange = "copy_file_range",
}
