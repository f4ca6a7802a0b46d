"""The only door to processes.

Every program that polyarch starts is started here: from a list, never a shell string; with an environment made from an
allowlist; and with its failure turned into one error that carries the end of what it said. `stream` kills the whole
process group of its child when the caller is cancelled, so that nothing outlives the command that started it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from polyarch.errors import BuildError, HostError

# What a child may know of the user's environment. Anything else (tokens, passwords) stays here.
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TERM", "TMPDIR", "TZ", "SSH_AUTH_SOCK", "SOURCE_DATE_EPOCH",
    "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG",
    "CONTAINERS_CONF", "CONTAINERS_REGISTRIES_CONF", "CONTAINERS_STORAGE_CONF", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "POLYARCH_HOME", "POLYARCH_CACHE",
)  # fmt: skip
STATUS = "POLYARCH_STATUS"
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_TAIL_LINES = 40
_TAIL_WIDTH = 2000  # characters of a line that an error repeats
_CHUNK = 1 << 16
_LINE_LIMIT = 1 << 20
_PATIENCE = 3.0  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Finished:
    """A process that has ended; `stdout` and `stderr` are whole."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it exited with 0."""
        return self.returncode == 0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every child: the allowlist, sbin folders in PATH (Debian users lack them), and `extra`."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    kept["PATH"] = f"{kept.get('PATH', '/usr/local/bin:/usr/bin:/bin')}:{_SBIN}"
    return kept | dict(extra or {})


def which(program: str) -> Path | None:
    """The program's path in the PATH that children get, or None."""
    found = shutil.which(program, path=environment()["PATH"])
    return Path(found) if found else None


def need(program: str, *, package: str = "") -> Path:
    """Like `which`, but raises `HostError` with the command that installs it."""
    found = which(program)
    if found is None:
        raise HostError(f"{program} is not installed", hint=f"apt-get install {package or program}")
    return found


def show(argv: Sequence[str]) -> str:
    """A command as a person can paste it into a shell."""
    return shlex.join(argv)


def capture(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Finished:
    """Run to the end and return what it printed.

    `timeout` is in seconds. Raises `HostError` when the program is missing, `BuildError` when it exits with anything
    but 0 (unless `check` is false) or does not end in time.
    """
    try:
        done = subprocess.run(
            list(argv), env=environment(env), input=stdin, capture_output=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]} is not installed", hint=f"apt-get install {Path(argv[0]).name}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{argv[0]} did not end within {timeout:g} s", detail=show(argv)) from error
    result = Finished(tuple(argv), done.returncode, _text(done.stdout), _text(done.stderr))
    if check and not result.ok:
        raise failed(argv, result.returncode, result.stderr or result.stdout)
    return result


def attach(argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Finished:
    """Run a user's program with this terminal's own stdin, stdout and stderr.

    The command finds a descriptor in POLYARCH_STATUS, on which it may say why the program did not start: `stderr` of
    the result. It must close that on exec. SIGTERM and SIGHUP sent to polyarch are passed on to the command's
    children, for nsenter(1) does not pass them on itself; SIGINT reaches them through the terminal.
    """
    told, tell = os.pipe()
    with subprocess.Popen(list(argv), env=environment(env) | {STATUS: str(tell)}, pass_fds=(tell,)) as child:
        os.close(tell)

        def pass_on(number: int, _frame: object) -> None:
            for pid in _children(child.pid) or [child.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
        previous[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            code = child.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    with os.fdopen(told, "rb") as status:
        return Finished(tuple(argv), code, "", _text(status.read()))


async def stream(
    argv: Sequence[str],
    on_line: Callable[[str], None],
    *,
    env: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
    check: bool = True,
) -> Finished:
    """Run and hand each line of stdout and stderr (merged, in order) to `on_line` and to `log` as it comes.

    The returned `stdout` holds the last 40 lines. Cancelling the caller kills the child's process group.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *argv, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise HostError(f"{argv[0]} is not installed", hint=f"apt-get install {Path(argv[0]).name}") from error
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    try:
        async for line in _lines(child):
            tail.append(line[:_TAIL_WIDTH])
            if log is not None:
                log.write(line + "\n")
                log.flush()
            on_line(line)
        returncode = await child.wait()
    except BaseException:
        await _end(child)
        raise
    result = Finished(tuple(argv), returncode, "\n".join(tail), "")
    if check and not result.ok:
        raise failed(argv, returncode, result.stdout)
    return result


def spawn(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a process that lives on beside this one, talking over pipes; the caller ends it.

    It is put into its own session, so that a Ctrl-C at the terminal reaches polyarch and not it.
    """
    return subprocess.Popen(
        list(argv), env=environment(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        pass_fds=tuple(pass_fds),
    )  # fmt: skip


def failed(argv: Sequence[str], returncode: int, said: str) -> BuildError:
    """The error for a process that exited with `returncode`, with the end of what it said."""
    how = f"was killed by signal {-returncode}" if returncode < 0 else f"exited with {returncode}"
    tail = "\n".join(said.strip().splitlines()[-_TAIL_LINES:])
    return BuildError(f"{Path(argv[0]).name} {how}", detail=tail, hint=f"the command was: {show(argv)}")


def _children(pid: int) -> list[int]:
    """The processes that any thread of `pid` started (proc(5), needs CONFIG_PROC_CHILDREN)."""
    words = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            words += file.read_text().split()
    return [int(word) for word in words]


async def _lines(child: asyncio.subprocess.Process) -> AsyncIterator[str]:
    """Lines as they come; a carriage return ends one too (progress bars), and a line of any length is cut to 1 MiB."""
    if child.stdout is None:
        return
    rest = b""
    while chunk := await child.stdout.read(_CHUNK):
        *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        for line in whole:
            if line:
                yield _text(line)
        if len(rest) > _LINE_LIMIT:
            yield _text(rest)
            rest = b""
    if rest:
        yield _text(rest)


async def _end(child: asyncio.subprocess.Process) -> None:
    """Ask the child's process group to stop, then insist."""
    for number, patience in ((signal.SIGTERM, _PATIENCE), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(child.wait()), patience)
            return


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
