//! A small file, read as a whole: a configuration, a secret, a certificate.
//!
//! What is no such file says so at once. A pipe would be waited for without an end, by whoever opens it as by whoever reads it,
//! and a device may never end.

use std::fs::{File, FileType};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens a file to be read; a link is followed.
///
/// # Errors
/// It cannot be opened, or it is something else than a file.
pub fn open(path: &Path) -> io::Result<File> {
    // To open a pipe waits for whoever writes to it, unless this is said (fifo(7)); a file does not care.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false => Err(io::Error::other(format!("it is {}, not a file", name(kind)))),
    }
}

/// Reads a file of up to `most_bytes`.
///
/// # Errors
/// As [`open`]; [`io::ErrorKind::FileTooLarge`] for a larger one.
pub fn read(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // What its length says may not be true any more.
    open(path)?.take(most_bytes + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most_bytes {
        true => {
            let why = format!("it is larger than {most_bytes} bytes");
            Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
        }
        false => Ok(bytes),
    }
}

fn name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, mknodat};

    use super::*;

    #[test]
    fn what_is_no_small_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let [good, large, pipe] = ["good", "large", "pipe"].map(|name| folder.path().join(name));
        std::fs::write(&good, "12345").unwrap();
        std::fs::write(&large, "123456").unwrap();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read(&good, 5).unwrap(), b"12345");
        for (path, said) in [
            (&*large, "it is larger than 5 bytes"),
            (&*pipe, "it is a pipe, not a file"),
            (folder.path(), "it is a directory, not a file"),
            (Path::new("/dev/zero"), "it is a device, not a file"),
            (Path::new("/nonexistent"), "No such file or directory (os error 2)"),
        ] {
            assert_eq!(read(path, 5).unwrap_err().to_string(), said, "{}", path.display());
        }
        assert_eq!(read(&large, 5).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
