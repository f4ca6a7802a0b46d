"""What one registry host can do for us (OCI distribution-spec v1.1): manifests, blobs, tags and referrers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx

from polyarch.errors import InputError, RegistryError
from polyarch.oci.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCUMENT_LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Document,
    Index,
    digest_of,
    document,
    parse_document,
)
from polyarch.oci.reference import Reference
from polyarch.registry import retry
from polyarch.registry.auth import Scope
from polyarch.registry.http import Call, Channel, TransientError, read
from polyarch.registry.upload import How, Opener, Upload

ACCEPT: Final = ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST))
# What servers say that know no better; the document's own word counts then.
_NO_TYPES = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
_CHUNK = 1 << 20  # bytes
_PAGES = 1000
_FOUND, _GONE = frozenset({200}), frozenset({200, 404})


@dataclass(frozen=True, slots=True)
class Head:
    """What a registry says of a manifest without sending it. `size` is in bytes; "" and -1 where it says nothing."""

    media_type: str
    digest: str
    size: int


class Registry:
    """One registry host. Use it inside `async with`; calls may run in parallel.

    Every call raises `InputError` when the host cannot be reached, `TransientError` when it went away after it had
    answered, and `RegistryError` when it refuses or fails.
    """

    def __init__(
        self, host: str, *, tls_verify: bool = True, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.host = host
        self._channel = Channel(host, tls_verify=tls_verify, transport=transport)
        self._where: dict[str, str] = {}  # a repository that is known to hold a blob, by the blob's digest

    async def __aenter__(self) -> Registry:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._channel.__aexit__(*error)

    async def ping(self) -> None:
        """Ask whether this is a registry that lets us in ("Determining Support")."""
        await self._channel.send(Call("GET", "/v2/"), _FOUND)

    async def head_manifest(self, ref: Reference) -> Head:
        """What a name points to, at the price of a HEAD. Raises `InputError` when there is no such manifest."""
        response = await self._channel.send(self._manifest("HEAD", ref), _GONE)
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _unknown(ref)
        length = response.headers.get("Content-Length", "")
        return Head(
            media_type=_media_type(response),
            digest=response.headers.get("Docker-Content-Digest", ref.digest),
            size=int(length) if re.fullmatch(r"[0-9]{1,18}", length) else -1,
        )

    async def get_manifest(self, ref: Reference) -> Document:
        """A manifest or an index, its digest checked against the reference or else against the registry's word.

        Raises `InputError` when there is none, when it is too large or no manifest.
        """
        found, stated = await self.read_manifest(ref)
        promised = ref.digest or stated
        if promised and _digest_like(promised, found.raw) != promised:
            raise RegistryError(
                f"{ref}: the registry sent a manifest with another digest", detail=f"{found.digest}, not {promised}"
            )
        return found

    async def read_manifest(self, ref: Reference) -> tuple[Document, str]:
        """A manifest as it is, nothing checked, and the digest that the registry states ("" when it states none)."""
        async with self._channel.exchange(self._manifest("GET", ref), _GONE) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                raise _unknown(ref)
            raw = await read(response, DOCUMENT_LIMIT)
        found = parse_document(raw, _media_type(response), str(ref))
        return found, response.headers.get("Docker-Content-Digest", "")

    async def put_manifest(self, ref: Reference, content: Document) -> None:
        """Store a manifest under the reference's tag, or else its digest; confirmed by the answer and by a HEAD.

        Raises `RegistryError` when the registry then holds something else.
        """
        call = self._manifest("PUT", ref)
        headers = {"Content-Type": content.media_type, "Content-Length": str(len(content.raw))}
        call = replace(call, headers=headers, body=lambda: _once(content.raw))
        response = await self._channel.send(call, {201})
        stated = response.headers.get("Docker-Content-Digest", content.digest)
        confirmed = (await self.head_manifest(ref)).digest or content.digest
        if not stated == confirmed == content.digest:
            raise RegistryError(
                f"{ref}: the registry stored something else than it was sent",
                detail=f"sent {content.digest}, stored {stated}, found {confirmed}",
            )
        if content.value.subject is not None and "OCI-Subject" not in response.headers:
            await self._list_referrer(ref, content, content.value.subject)

    async def blob_exists(self, repository: str, digest: str) -> bool:
        """Whether the repository holds the blob."""
        call = Call("HEAD", f"/v2/{repository}/blobs/{digest}", (Scope(repository),))
        found = (await self._channel.send(call, _GONE)).status_code == httpx.codes.OK
        if found:
            self._where[digest] = repository
        return found

    async def get_blob(
        self, repository: str, blob: Descriptor, start: int = 0, begun: hashlib._Hash | None = None
    ) -> AsyncGenerator[bytes, None]:
        """A blob's bytes from `start` on, in chunks of about 1 MiB; `begun` is the hash of those before.

        Raises `InputError` when the blob is missing; `RegistryError` when there are more bytes or fewer than the
        descriptor says, or, at the end, when their digest is another.
        """
        algorithm, _, value = blob.digest.partition(":")
        hasher = begun or hashlib.new(algorithm)
        got = start
        async with aclosing(self.read_blob(repository, blob.digest, start)) as chunks:
            async for chunk in chunks:
                got += len(chunk)
                if got > blob.size:
                    break
                hasher.update(chunk)
                yield chunk
        if got != blob.size:
            raise RegistryError(f"{self.host} sent {got} bytes of blob {blob.digest}, which should have {blob.size}")
        if hasher.hexdigest() != value:
            raise RegistryError(
                f"{self.host} sent blob {blob.digest} with other bytes than its digest's",
                detail=f"they have {algorithm}:{hasher.hexdigest()}",
            )

    async def read_blob(self, repository: str, digest: str, start: int = 0) -> AsyncGenerator[bytes, None]:
        """A blob as it is, nothing checked, whatever its length; a connection that is cut is taken up where it was."""
        stumbles = 0
        while True:
            before = start
            try:
                async with aclosing(self._blob_from(repository, digest, start)) as chunks:
                    async for chunk in chunks:
                        start += len(chunk)
                        yield chunk
            except TransientError:
                stumbles = 1 if start > before else stumbles + 1
                if stumbles == retry.ATTEMPTS:
                    raise
            else:
                return

    async def put_blob(self, repository: str, digest: str, size: int, open_blob: Opener, mount_from: str = "") -> How:
        """Make sure that the repository holds a blob of `size` bytes; says how. `open_blob` may be called often.

        `mount_from` names another repository of this registry that may hold it.
        """
        if await self.blob_exists(repository, digest):
            return "exists"
        upload = Upload(self._channel, repository, digest, size, open_blob)
        origin = self._where.get(digest, mount_from)
        how = await upload.run(origin if origin != repository else "")
        self._where[digest] = repository
        return how

    async def delete(self, ref: Reference) -> None:
        """Delete a manifest by its digest, or a tag. Raises `InputError` when there is none."""
        call = self._manifest("DELETE", ref, "pull,delete")
        response = await self._channel.send(call, {200, 202, 400, 404, 405})
        if response.status_code == httpx.codes.NOT_FOUND:
            raise _unknown(ref)
        if not response.is_success:
            raise RegistryError(
                f"{self.host} deletes no {'manifests' if ref.digest else 'tags'} (status {response.status_code})",
                hint="deletion may be switched off there" if ref.digest else "name the manifest by its digest",
            )

    async def tags(self, repository: str) -> tuple[str, ...]:
        """All tags of a repository. Raises `InputError` when the registry does not know it."""
        found: list[str] = []
        async for page in self._pages(repository, f"/v2/{repository}/tags/list"):
            if page is None:
                raise InputError(f"{self.host}/{repository}: no such repository in the registry")
            found += [str(tag) for tag in page.get("tags") or ()]
        return tuple(found)

    async def referrers(self, ref: Reference, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """What refers to the manifest with the reference's digest: signatures, SBOMs ("Listing Referrers").

        Registries without that API are asked for the index under the tag `sha256-<hex>`.
        """
        found: list[Descriptor] = []
        async for page in self._pages(ref.repository, f"/v2/{ref.repository}/referrers/{ref.digest}"):
            if page is None:
                found += await self._listed_by_tag(ref)
                break
            raw = json.dumps(page).encode()
            listed = parse_document(raw, OCI_INDEX, f"the referrers of {ref}").value
            found += listed.manifests if isinstance(listed, Index) else ()
        return tuple(entry for entry in found if artifact_type in {"", entry.artifact_type})

    async def _listed_by_tag(self, ref: Reference) -> tuple[Descriptor, ...]:
        call = self._manifest("GET", _referrers_tag(ref))
        async with self._channel.exchange(call, _GONE) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                return ()
            listed = parse_document(await read(response), OCI_INDEX, str(ref)).value
        return listed.manifests if isinstance(listed, Index) else ()

    async def _list_referrer(self, ref: Reference, content: Document, subject: Descriptor) -> None:
        """Keep the index of referrers where the registry does not ("Pushing Manifests with Subject")."""
        target = ref.with_digest(subject.digest)
        value = content.value
        kind = value.artifact_type or (None if isinstance(value, Index) else value.config.media_type)
        entry = content.descriptor.model_copy(update={"artifact_type": kind, "annotations": value.annotations})
        others = [other for other in await self._listed_by_tag(target) if other.digest != entry.digest]
        index = Index(schema_version=2, media_type=OCI_INDEX, manifests=(*others, entry))
        await self.put_manifest(_referrers_tag(target), document(index))

    def _manifest(self, method: str, ref: Reference, actions: str = "") -> Call:
        name = ref.digest or ref.tag
        actions = actions or ("pull,push" if method == "PUT" else "pull")
        scopes = (Scope(ref.repository, actions),)
        return Call(method, f"/v2/{ref.repository}/manifests/{name}", scopes, {"Accept": ACCEPT})

    async def _blob_from(self, repository: str, digest: str, start: int) -> AsyncGenerator[bytes, None]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        call = Call("GET", f"/v2/{repository}/blobs/{digest}", (Scope(repository),), headers)
        async with self._channel.exchange(call, {200, 206, 404, 416}) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                raise InputError(f"{self.host}/{repository}: blob {digest} is missing from the registry")
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # all of it had come already
            skip = start
            if response.status_code == httpx.codes.PARTIAL_CONTENT:
                if not re.match(rf"bytes {start}-", response.headers.get("Content-Range", "")):
                    raise RegistryError(f"{self.host} sent another part of blob {digest} than it was asked for")
                skip = 0
            async for chunk in _gathered(response):
                rest = chunk[skip:]
                skip -= len(chunk) - len(rest)
                if rest:
                    yield rest

    async def _pages(self, repository: str, url: str) -> AsyncIterator[dict[str, Any] | None]:
        """The JSON objects of a list, page after page (`Link`, RFC 8288); one None where there is no list."""
        for _ in range(_PAGES):
            async with self._channel.exchange(Call("GET", url, (Scope(repository),)), _GONE) as response:
                body = await read(response, DOCUMENT_LIMIT)
            if response.status_code == httpx.codes.NOT_FOUND:
                yield None
                return
            yield _json(body, f"{self.host}/{repository}")
            following = response.links.get("next", {}).get("url")
            if not following:
                return
            url = str(response.request.url.join(following))


async def _gathered(response: httpx.Response) -> AsyncIterator[bytes]:
    """A body in chunks of about 1 MiB; what came before a cut is handed on before the error is."""
    data = bytearray()
    try:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) >= _CHUNK:
                yield bytes(data)
                data.clear()
    except httpx.TransportError:
        yield bytes(data)
        raise
    yield bytes(data)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _json(body: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{where}: the registry sent a list that is not JSON") from error
    if not isinstance(data, dict):
        raise RegistryError(f"{where}: the registry sent a list that is not a JSON object")
    return data


def _media_type(response: httpx.Response) -> str:
    stated = str(response.headers.get("Content-Type", "")).partition(";")[0].strip()
    return "" if stated in _NO_TYPES else stated


def _digest_like(promised: str, raw: bytes) -> str:
    """The digest of `raw` with the algorithm of another digest."""
    algorithm = promised.partition(":")[0]
    return f"sha512:{hashlib.sha512(raw).hexdigest()}" if algorithm == "sha512" else digest_of(raw)


def _referrers_tag(ref: Reference) -> Reference:
    return replace(ref, tag=ref.digest.replace(":", "-"), digest="")


def _unknown(ref: Reference) -> InputError:
    return InputError(f"{ref}: no such image in the registry", hint="check its name and tag, and that it was pushed")
