"""Run doubtful code in a process of its own, behind the walls that this system has.

Everywhere but on Windows: a time limit, after which the process and its children are killed; limits
on memory, processes and the size of a file; an empty folder to work in, removed afterwards; nothing
typed, nothing printed. Root becomes `nobody` first, unless only root may read this Python (then the
number of processes has no limit).

On Linux, where namespaces are allowed, also: no network; all files read-only but a folder of its
own (64 MiB, in memory); chosen folders hidden; other processes out of sight; none of its own left
behind. It is no container all the same: it reads every other file that its user may read.
"""

import ctypes
import os
import select
import signal
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from time import monotonic

MEMORY = 2 * 2**30  # bytes, beyond what the process has when it begins
DISK = 64 * 2**20  # bytes of a file, and of the folder where it is in memory
PROCESSES = 64
TEXT = 4000  # bytes that come back, unless more are asked for
NOBODY = 65534
NAMESPACES = 0x10000000 | 0x00020000 | 0x40000000 | 0x20000000 | 0x08000000  # user mnt net pid ipc
DUMPABLE, NEW_PRIVILEGES = 4, 38  # of prctl: /proc/self is ours; setuid programs give nothing
MOUNT_SETATTR, HERE, RECURSIVE = 442, -100, 0x8000
READ_ONLY, NO_SUID, NO_DEVICES = 1, 2, 4

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def run(function, seconds, hidden=(), memory=MEMORY, size=TEXT):
    """Return the text that `function(walls)` returns; `walls` says whether all walls stand.

    Args:   size: the most bytes that come back; what is longer is cut.
    Raises: TimeoutError.  ChildProcessError, with a reason, if the process ended without a text.
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder:
        keeper = os.fork()
        if keeper == 0:
            try:
                _keep(function, writer, Path(folder), hidden, memory, seconds, size)
            finally:
                os._exit(1)
        os.close(writer)
        try:
            text = _read(reader, seconds, size)
        finally:
            os.kill(keeper, signal.SIGTERM)
            code = os.waitstatus_to_exitcode(os.waitpid(keeper, 0)[1])
            os.close(reader)
    if text is None:
        raise TimeoutError
    if not text:
        raise ChildProcessError(f"signal {code - 128}" if code > 128 else f"exit code {code}")
    return text.decode("utf-8", "replace")


def _read(reader, seconds, size):
    """Return what comes, after eight digits that say how much; None if it does not come in time.

    An inmate may find the pipe and write what it likes: then nothing is returned.
    """
    until, text, length = monotonic() + seconds, b"", 0
    while len(text) < 8 + length:
        ready, _, _ = select.select([reader], [], [], max(0, until - monotonic()))
        if not ready:
            return None
        piece = os.read(reader, 2**16)
        text += piece
        if len(text) >= 8 and text[:8].isdigit():
            length = int(text[:8])
        elif len(text) >= 8:
            return b""
        if not piece or length > size:
            return b""
    return text[8:]


def _keep(function, writer, folder, hidden, memory, seconds, size):
    """Start the process that runs the function; end when it ends, or kill it when asked to end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.setsid()
    walls = _leave(folder)
    inmate = os.fork()  # the first process of its namespace: when it goes, all others there go
    if inmate == 0:
        try:
            walls = _enter(writer, folder, hidden, memory, walls)
            text = function(walls).encode("utf-8", "replace")[:size]
            with open(writer, "wb") as pipe:
                pipe.write(b"%08d" % len(text) + text)
        finally:
            os._exit(0)
    close_memory()
    os.close(writer)

    def kill(*_):
        for how in (os.killpg, os.kill):  # the group may be gone, or not yet there
            with suppress(OSError):
                how(inmate, signal.SIGKILL)

    signal.signal(signal.SIGTERM, kill)
    signal.signal(signal.SIGALRM, kill)
    signal.alarm(int(seconds) + 10)  # should whoever asks be no more
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    code = os.waitstatus_to_exitcode(os.waitpid(inmate, 0)[1])
    kill()  # what it started
    os._exit(code if code >= 0 else 128 - code)


def _leave(folder):
    """Leave root and the system's namespaces for others; return whether the latter was allowed."""
    if os.geteuid() == 0 and can_be_nobody():
        os.chown(folder, NOBODY, NOBODY)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    if libc is None:
        return False
    libc.prctl(DUMPABLE, 1, 0, 0, 0)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(NAMESPACES) != 0:
        return False
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
    return True


def close_memory():
    """Let no other process of this user read this one's memory, where the system can."""
    if libc is not None:
        libc.prctl(DUMPABLE, 0, 0, 0, 0)


def can_be_nobody():
    """Say whether we are not root, or may cease to be: whether anyone may read this Python."""
    paths = (sys.prefix, sys.base_prefix, __file__)
    folders = {folder for path in paths for folder in Path(path).resolve().parents}
    return os.geteuid() != 0 or all(f.stat().st_mode & 0o005 == 0o005 for f in folders)


def _enter(writer, folder, hidden, memory, walls):
    """Cut what is inherited, close the walls, set the limits; return whether all walls stand."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    sys.stdin = open(0, closefd=False)
    os.closerange(3, writer)
    os.closerange(writer + 1, 65536)
    read_only = False
    if walls:
        flags = struct.pack("QQQQ", READ_ONLY, 0, 0, 0)
        # An older kernel than 5.12 does not know it: then files can be written.
        read_only = libc.syscall(MOUNT_SETATTR, HERE, b"/", RECURSIVE, flags, len(flags)) == 0
        in_use = [Path(p).resolve() for p in (folder, sys.prefix, sys.base_prefix, __file__)]
        for path in map(Path, hidden):
            if not any(used.is_relative_to(path.resolve()) for used in in_use):
                _mount(b"tmpfs", path, READ_ONLY)
        _mount(b"tmpfs", folder)
        _mount(b"tmpfs", Path("/dev/shm"))
        _mount(b"proc", Path("/proc"))
        # Since 5.8: nor is one listed whose memory is closed; its command line tells things, too.
        _mount(b"proc", Path("/proc"), options=b"hidepid=4")
        libc.prctl(NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.capset(struct.pack("Ii", 0x20080522, 0), bytes(24))  # no way back
    os.chdir(folder)
    os.environ.update(HOME=str(folder), TMPDIR=str(folder))
    tempfile.tempdir = str(folder)
    _limit(memory, PROCESSES if walls else 16 * PROCESSES)  # else all of the user's are counted
    return read_only


def _mount(kind, path, flags=0, options=None):
    """Mount an empty folder in memory, or this namespace's processes, on a path, if allowed."""
    if kind == b"tmpfs":
        options = f"size={DISK}".encode()
    libc.mount(kind, os.fsencode(path), kind, flags | NO_SUID | NO_DEVICES, options)


def _limit(memory, processes):
    """Limit memory, processes, the size of a file, and core dumps, each where the system can."""
    import resource

    limits = {"RLIMIT_NPROC": processes, "RLIMIT_FSIZE": DISK, "RLIMIT_CORE": 0}
    with suppress(OSError):  # Linux alone says how much there is already
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits["RLIMIT_AS"] = pages * resource.getpagesize() + memory
    for name, value in limits.items():
        with suppress(AttributeError, OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (value, value))
