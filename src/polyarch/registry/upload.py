"""A blob into a registry: there already, mounted, in one piece, or in pieces that a failure does not lose.

Source: distribution-spec v1.1, "Pushing blobs".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO, Literal

import httpx

from polyarch.errors import InputError, RegistryError
from polyarch.registry import retry
from polyarch.registry.auth import Scope
from polyarch.registry.http import Body, Call, Channel, TransientError

# A blob up to this many bytes goes in one request; a larger one in requests of this many.
PIECE = 32 << 20
_READ = 1 << 20  # bytes
_SESSIONS = 3
_STUMBLES = 5  # failures in a row, without a byte gained, before an upload is given up

Opener = Callable[[], BinaryIO]
How = Literal["exists", "mounted", "sent"]


class _SessionLost(Exception):  # noqa: N818 - never leaves this module
    """The registry no longer knows the upload (it restarted, or gave up on it)."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One blob on its way; `open` gives its bytes from the start, as a file that can seek. `size` is in bytes."""

    channel: Channel
    repository: str
    digest: str
    size: int
    open: Opener

    async def run(self, mount_from: str) -> How:
        """Upload, unless a mount from another repository of the registry makes it needless.

        Raises `InputError` when the local blob has another size; `TransientError` when the registry goes away;
        `RegistryError` when it refuses.
        """
        for session in range(1, _SESSIONS + 1):
            start = await self._start(mount_from if session == 1 else "")
            if start is None:
                return "mounted"
            self._check_size()  # not before: what is mounted need not even be here
            try:
                await self._fill(*start)
            except (_SessionLost, TransientError) as error:
                # The last request may have been served although its answer was lost.
                if await self._arrived():
                    return "sent"
                if session == _SESSIONS:
                    raise TransientError(
                        f"{self.channel.host} does not take blob {self.digest}", detail=str(error), hint="run it again"
                    ) from error
                await asyncio.sleep(retry.backoff(session))
            else:
                return "sent"
        raise AssertionError("the last session returns or raises")

    def _check_size(self) -> None:
        with self.open() as file:
            actual = file.seek(0, 2)
        if actual != self.size:
            raise InputError(f"blob {self.digest} has {actual} bytes, its descriptor says {self.size}")

    async def _arrived(self) -> bool:
        url = f"/v2/{self.repository}/blobs/{self.digest}"
        response = await self.channel.send(Call("HEAD", url, self._scopes()), {200, 404})
        return response.status_code == httpx.codes.OK

    async def _start(self, mount_from: str) -> tuple[str, int] | None:
        """Open a session: its address and the size of pieces in bytes; or None when the blob was mounted instead."""
        url = f"/v2/{self.repository}/blobs/uploads/"
        if mount_from:
            query = httpx.QueryParams({"mount": self.digest, "from": mount_from})
            call = Call("POST", f"{url}?{query}", (*self._scopes(), Scope(mount_from)), {"Content-Length": "0"})
            # Some registries refuse a mount that they might have ignored; then it is an upload like any other.
            response = await self.channel.send(call, {201, 202, 400, 401, 403, 404, 405})
            if response.status_code == httpx.codes.CREATED:
                return None
            if response.status_code == httpx.codes.ACCEPTED:
                return self._session(response)
        call = Call("POST", url, self._scopes(), {"Content-Length": "0"})
        return self._session(await self.channel.send(call, {202}))

    def _session(self, response: httpx.Response) -> tuple[str, int]:
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        return self.channel.address(response), max(PIECE, int(least) if re.fullmatch(r"[0-9]{1,12}", least) else 0)

    async def _fill(self, location: str, piece: int) -> None:
        """Send what the session lacks, and close it under the blob's digest."""
        offset, stumbles = 0, 0
        while self.size > piece and offset < self.size:
            end = min(offset + piece, self.size)
            try:
                location, reached = await self._patch(location, offset, end)
            except TransientError:
                await asyncio.sleep(retry.backoff(stumbles + 1))
                location, reached = await self._status(location)
            stumbles = 0 if reached > offset else stumbles + 1
            if reached > self.size or stumbles == _STUMBLES:
                raise _SessionLost(f"the registry says that it has {reached} of {self.size} bytes")
            offset = reached
        await self._close(location, offset)

    async def _patch(self, location: str, start: int, end: int) -> tuple[str, int]:
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - start),
            "Content-Range": f"{start}-{end - 1}",
        }
        call = Call("PATCH", location, self._scopes(), headers, self._bytes(start, end), retry=False)
        response = await self.channel.send(call, {202, 404, 416})
        if response.status_code != httpx.codes.ACCEPTED:
            return await self._status(location)
        return self.channel.address(response), _reached(response, end)

    async def _status(self, location: str) -> tuple[str, int]:
        """Where to go on and from which byte. Raises `_SessionLost` when the registry does not know the upload."""
        response = await self.channel.send(Call("GET", location, self._scopes()), {204, 400, 404, 405, 416})
        if response.status_code != httpx.codes.NO_CONTENT:
            raise _SessionLost(f"the upload is unknown (status {response.status_code})")
        return (self.channel.address(response) if "Location" in response.headers else location), _reached(response, 0)

    async def _close(self, location: str, offset: int) -> None:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(self.size - offset)}
        url = str(httpx.URL(location).copy_merge_params({"digest": self.digest}))
        body = self._bytes(offset, self.size) if offset < self.size else None
        response = await self.channel.send(
            Call("PUT", url, self._scopes(), headers, body, retry=False), {201, 204, 400, 404, 416}
        )
        if response.status_code not in {201, 204}:
            # 400 is how a digest that does not fit is answered: bytes were lost on the way, or are wrong here.
            raise _SessionLost(f"the registry did not accept the bytes (status {response.status_code})")
        stated = response.headers.get("Docker-Content-Digest", self.digest)
        if stated != self.digest:
            raise RegistryError(f"{self.channel.host} stored blob {self.digest} as {stated}")

    def _scopes(self) -> tuple[Scope, ...]:
        return (Scope(self.repository, "pull,push"),)

    def _bytes(self, start: int, end: int) -> Body:
        async def chunks() -> AsyncIterator[bytes]:
            with self.open() as file:
                file.seek(start)
                left = end - start
                while left and (chunk := await asyncio.to_thread(file.read, min(_READ, left))):
                    left -= len(chunk)
                    yield chunk

        return chunks


def _reached(response: httpx.Response, default: int) -> int:
    """The number of bytes that a session has, from `Range: 0-N`.

    distribution answers `0-0` for none and for one byte alike; none is meant where it matters.
    """
    found = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,18})", response.headers.get("Range", ""))
    if found is None:
        return default
    return int(found.group(1)) + 1 if found.group(1) != "0" else 0
