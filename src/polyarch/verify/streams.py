"""From the stored bytes of a blob to the bytes of its tar archive, a bounded piece at a time.

Sources: RFC 1952 (gzip, members may follow each other), RFC 8878 (zstd, with skippable frames), and for zstd:chunked
the footer of containers/storage `pkg/chunked/internal/compression.go`, which ends with the magic `GNUlInUx`.
"""

from __future__ import annotations

import contextlib
import importlib
import queue
import threading
import zlib
from collections.abc import Generator, Iterator
from typing import Any, Final

from polyarch.errors import HostError
from polyarch.verify.facts import Compression

PIECE: Final = 1 << 20  # bytes handed on at once
CHUNKED_MAGIC: Final = b"GNUlInUx"
_AHEAD: Final = 4
_INPUT: Final = 1 << 18  # bytes given to the decompressor at once: what it does not use is copied
_WINDOW: Final = 64 << 20  # bytes of history a zstd frame may ask for; `zstd -19` takes 8 MiB
_MAGICS: Final[tuple[tuple[bytes, Compression], ...]] = (
    (b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bzip2"),
)  # fmt: skip


class CorruptError(Exception):
    """The compressed stream is damaged or ends too early; the message says how. Never leaves this room."""


def sniff(head: bytes) -> Compression:
    """What the first bytes (512 of them, if there are as many) are."""
    if not head:
        return "empty"
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    # A skippable frame may come first in zstd; an archive without any entry is all zeros.
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return "tar" if head[257:262] == b"ustar" or not any(head) or _old_tar(head) else "unknown"


def expand(chunks: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """The decompressed bytes in pieces of at most `PIECE`; raises `CorruptError`, and `HostError` without zstandard."""
    if compression == "gzip":
        return _gunzip(chunks)
    if compression == "zstd":
        return _unzstd(chunks)
    return chunks


def ahead(pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same pieces, made by a thread of their own that is at most `_AHEAD` pieces in front.

    Decompression and hashing release the interpreter's lock, so the two halves of one layer's work run side by side.
    When the caller stops early, the thread has ended before this generator is closed.
    """
    lane: queue.Queue[bytes | Exception | None] = queue.Queue(_AHEAD)
    stopped = threading.Event()

    def make() -> None:
        end: Exception | None = None
        try:
            for piece in pieces:
                lane.put(piece)
                if stopped.is_set():
                    break
        except Exception as problem:  # noqa: BLE001  # handed on whole, and raised in the caller's thread
            end = problem
        lane.put(end)

    maker = threading.Thread(target=make, daemon=True)
    maker.start()
    got: bytes | Exception | None = b""
    try:
        while (got := lane.get()) is not None:
            if isinstance(got, Exception):
                raise got
            yield got
    finally:
        stopped.set()
        while isinstance(got, bytes):
            got = lane.get()
        maker.join()


def _old_tar(head: bytes) -> bool:
    """A tar header of before POSIX: no magic, but a checksum that fits."""
    if len(head) < 512:
        return False
    with contextlib.suppress(ValueError):
        return int(head[148:156].strip(b" \0") or b"0", 8) == sum(head[:148]) + 256 + sum(head[156:512])
    return False


def _inflater() -> tuple[Any, type[Exception]]:
    """ISA-L's inflate where it is installed (twice as fast), else zlib's; with the error it raises."""
    try:
        isal = importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib, zlib.error
    return isal, isal.error


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    library, error = _inflater()
    member = library.decompressobj(31)
    fresh = True
    try:
        for data in _cut(chunks):
            while data:
                if member.eof:
                    member = library.decompressobj(31)
                    fresh = True
                out = member.decompress(data, PIECE)
                fresh = False
                if out:
                    yield out
                data = member.unused_data if member.eof else member.unconsumed_tail
    except error as problem:
        raise CorruptError(f"gzip: {problem}") from problem
    # A piece that ended exactly at the limit may leave output inside the decompressor.
    while not member.eof and (out := member.decompress(b"", PIECE)):
        yield out
    if fresh or not member.eof:
        raise CorruptError("gzip: the stream ends too early")


def _cut(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if len(chunk) <= _INPUT:
            yield chunk
        else:
            for at in range(0, len(chunk), _INPUT):
                yield chunk[at : at + _INPUT]


class _Readable:
    """Chunks as the file that zstandard reads from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end only."""
        while not self._rest:
            self._rest = next(self._chunks, b"")
            if not self._rest:
                return b""
        out, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return out


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        library = importlib.import_module("zstandard")
    except ImportError as error:
        raise HostError(
            "this image has zstd layers, and zstandard is not installed", hint="pip install zstandard"
        ) from error
    # A stream that ends early just ends here (its library cannot tell); the archive and the diff id then show it.
    reader = library.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(
        _Readable(_cut(chunks)), read_across_frames=True, closefd=False
    )
    try:
        while out := reader.read(PIECE):
            yield out
    except library.ZstdError as problem:
        raise CorruptError(f"zstd: {problem}") from problem
