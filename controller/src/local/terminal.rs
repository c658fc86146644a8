//! The user's terminal: its size, and raw mode that is always undone.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

nix::ioctl_read_bad!(
    /// Reads the size of a terminal.
    get_window_size, libc::TIOCGWINSZ, libc::winsize
);
nix::ioctl_write_ptr_bad!(
    /// Sets the size of a terminal.
    set_window_size, libc::TIOCSWINSZ, libc::winsize
);

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// The size of the terminal, where it is one.
pub fn size(terminal: impl AsFd) -> Option<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize to the live variable.
    unsafe { get_window_size(terminal.as_fd().as_raw_fd(), &raw mut size) }.ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(Size { rows: size.ws_row, columns: size.ws_col })
}

/// The width of the terminal in characters, where it is one.
pub fn width(terminal: impl AsFd) -> Option<usize> {
    size(terminal).map(|size| usize::from(size.columns))
}

/// Sets the size of a terminal; who has none is no error worth a word.
pub fn resize(terminal: impl AsFd, size: Size) {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads one winsize from the live variable.
    let _ = unsafe { set_window_size(terminal.as_fd().as_raw_fd(), &raw const size) };
}

/// Keeps a terminal in raw mode; dropping it restores what was.
#[derive(Debug)]
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    /// Puts the terminal into raw mode.
    ///
    /// # Errors
    /// It is not a terminal.
    pub fn enter(terminal: impl AsFd) -> std::io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}
