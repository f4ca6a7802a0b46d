"""What several commands share: options, the store, how results are printed, how asynchronous work is run."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from polyarch import report
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.arch import Platform
    from polyarch.oci.layout import Layout

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print results, and progress on stderr, as JSON.")]
Platforms = Annotated[
    list[str] | None,
    typer.Option("--platform", help="Platforms, repeated or with commas: linux/amd64,linux/arm64."),
]
TlsVerify = Annotated[
    bool, typer.Option("--tls-verify/--no-tls-verify", help="Demand HTTPS and a valid certificate of the registry.")
]


def sink(as_json: bool) -> report.Sink:
    """Progress for people, or for machines."""
    return report.machine() if as_json else report.human()


def print_json(value: object) -> None:
    """A result on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def store() -> Layout:
    """The layout that holds polyarch's images; until this process ends `prune` keeps away from it."""
    from polyarch import places
    from polyarch.oci.layout import Layout

    with contextlib.suppress(OSError):  # a store that cannot be written is only read
        places.home().mkdir(parents=True, exist_ok=True)
        lock = os.open(places.store_lock(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(lock, fcntl.LOCK_SH)
    return Layout(places.store())


def platforms(values: Sequence[str] | None) -> tuple[Platform, ...]:
    """The platforms asked for, or this machine's. Raises `InputError` for one that is unknown."""
    from polyarch.arch import host_platform, parse_platforms

    return parse_platforms(values or []) or (host_platform(),)


def pairs(option: str, values: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """`NAME=VALUE` options; a bare NAME takes its value from the environment, as docker does."""
    found = []
    for value in values:
        name, equals, rest = value.partition("=")
        if not name:
            raise InputError(f"{option} wants NAME=VALUE, not {value!r}")
        if equals or name in os.environ:
            found.append((name, rest if equals else os.environ[name]))
    return tuple(found)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns on stdout, as wide as their widest cell."""
    lines = [tuple(map(report.printable, line)) for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGTERM and SIGINT cancel the work, which then cleans up behind itself."""

    async def cancellable() -> T:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, task.cancel)
        return await task

    return asyncio.run(cancellable())


def say(line: str) -> None:
    """A remark for people, on stderr."""
    print(line, file=sys.stderr)
