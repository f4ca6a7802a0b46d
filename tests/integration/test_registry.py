"""The client against Debian's docker-registry: pushed and pulled, with a password, with TLS, killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from registry_server import PASSWORD, USER, RegistryServer, available, registry_server
from token_server import token_server

from polyarch.arch import Platform
from polyarch.errors import InputError, RegistryError
from polyarch.oci.layout import Layout
from polyarch.oci.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Document,
    Index,
    Manifest,
    PlatformField,
    document,
)
from polyarch.oci.reference import Location, Reference, parse_location
from polyarch.registry import trust, upload
from polyarch.registry.client import Registry
from polyarch.registry.http import TransientError
from polyarch.registry.pull import pull
from polyarch.registry.push import push
from polyarch.registry.source import open_source
from polyarch.report import Event, silent

pytestmark = pytest.mark.skipif(not available(), reason="docker-registry is not installed")

AMD64, ARM64, S390X = (Platform("linux", name) for name in ("amd64", "arm64", "s390x"))
LAYER = 6_000_000  # bytes
PIECE = 1_000_000  # bytes


@pytest.fixture(autouse=True)
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, short waits, and nobody's real credentials."""
    monkeypatch.setattr(upload, "PIECE", PIECE)
    monkeypatch.setattr("polyarch.registry.retry.backoff", lambda _attempt: 0.05)
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(trust, "CERTIFICATE_FOLDERS", (tmp_path / "certs.d",))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with registry_server(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "layout")


def image(layout: Layout, platforms: tuple[Platform, ...] = (AMD64, ARM64), size: int = LAYER) -> Document:
    """An index of images, each with a layer of its own and one that all share."""
    shared = layer(layout, 1000)
    entries = []
    for platform in platforms:
        layers = (shared, layer(layout, size))
        config = json.dumps(
            {"architecture": platform.architecture, "os": "linux",
             "rootfs": {"type": "layers", "diff_ids": [each.digest for each in layers]}}
        ).encode()  # fmt: skip
        described = Descriptor(media_type=OCI_CONFIG, digest=layout.add(config), size=len(config))
        manifest = document(Manifest(schema_version=2, media_type=OCI_MANIFEST, config=described, layers=layers))
        field = PlatformField.model_validate({"os": platform.os, "architecture": platform.architecture})
        entries.append(layout.store(manifest).model_copy(update={"platform": field}))
    index = document(Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(entries)))
    layout.tag(index, ["image"])
    return index


def layer(layout: Layout, size: int) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER, digest=layout.add(os.urandom(size)), size=size)


def name(server: RegistryServer, repository: str = "team/app", tag: str = "1") -> Reference:
    return Reference(server.host, repository, tag)


def go(host: str, what: Callable[[Registry], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        async with Registry(host, **options) as client:
            return await what(client)

    return asyncio.run(run())


def push_it(server: RegistryServer, layout: Layout, index: Document, ref: Reference, **options: Any) -> list[str]:
    """Push, and tell how each blob went: `exists`, `mounted` or `sent`."""
    events: list[Event] = []
    go(server.host, lambda c: push(c, layout, index, ref, events.append), **options)
    return [event.text.split()[0] for event in events if event.kind == "step"]


class Watched(httpx.AsyncBaseTransport):
    """The real network; `watch` sees each request before it is sent, and may change the answer after."""

    def __init__(
        self,
        watch: Callable[[httpx.Request], None] = lambda _: None,
        change: Callable[[httpx.Response], httpx.Response] = lambda response: response,
    ) -> None:
        self.inner = httpx.AsyncHTTPTransport()
        self.watch = watch
        self.change = change
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.watch(request)
        return self.change(await self.inner.handle_async_request(request))

    async def aclose(self) -> None:
        await self.inner.aclose()

    def count(self, method: str, pattern: str) -> int:
        return sum(r.method == method and re.search(pattern, r.url.path) is not None for r in self.requests)


def test_what_is_pushed_is_what_is_pulled(server: RegistryServer, layout: Layout, tmp_path: Path) -> None:
    index = image(layout)
    assert set(push_it(server, layout, index, name(server))) == {"sent"}
    other = Layout(tmp_path / "other")
    assert go(server.host, lambda c: pull(c, other, name(server))).raw == index.raw
    other.tag(index, ["image"])  # refuses when a blob is missing
    for blob in layout.blobs.glob("*/*"):
        assert other.blob_path(f"sha256:{blob.name}").read_bytes() == blob.read_bytes()
    assert not list((other.path / "incoming").iterdir())


def test_again_nothing_is_moved(server: RegistryServer, layout: Layout, tmp_path: Path) -> None:
    index = image(layout)
    push_it(server, layout, index, name(server))
    watched = Watched()
    assert set(push_it(server, layout, index, name(server), transport=watched)) == {"exists"}
    assert watched.count("POST", "uploads") == 0
    other = Layout(tmp_path / "other")
    go(server.host, lambda c: pull(c, other, name(server)))
    watched = Watched()
    go(server.host, lambda c: pull(c, other, name(server)), transport=watched)
    assert watched.count("GET", "blobs|manifests") == 0


def test_blobs_are_mounted_from_another_repository(server: RegistryServer, layout: Layout) -> None:
    index = image(layout)
    push_it(server, layout, index, name(server))
    events: list[Event] = []
    target = name(server, "other/app")
    go(server.host, lambda c: push(c, layout, index, target, events.append, "team/app"))
    assert {event.text.split()[0] for event in events if event.kind == "step"} == {"mounted"}


def test_only_the_platforms_that_are_wanted_are_pulled(server: RegistryServer, layout: Layout, tmp_path: Path) -> None:
    index = image(layout)
    push_it(server, layout, index, name(server))
    other = Layout(tmp_path / "other")
    go(server.host, lambda c: pull(c, other, name(server), [ARM64]))
    assert isinstance(index.value, Index)
    amd64, arm64 = (entry.digest for entry in index.value.manifests)
    assert (other.has(amd64), other.has(arm64)) == (False, True)
    with pytest.raises(InputError, match="linux/s390x") as caught:
        go(server.host, lambda c: pull(c, other, name(server), [ARM64, S390X]))
    assert "linux/amd64, linux/arm64" in caught.value.detail


def test_a_plain_manifest_of_another_platform_is_refused(
    server: RegistryServer, layout: Layout, tmp_path: Path
) -> None:
    index = image(layout, (ARM64,))
    assert isinstance(index.value, Index)
    plain = layout.document(index.value.manifests[0])
    push_it(server, layout, plain, name(server))
    other = Layout(tmp_path / "other")
    go(server.host, lambda c: pull(c, other, name(server), [ARM64]))
    with pytest.raises(InputError, match="no image for linux/amd64"):
        go(server.host, lambda c: pull(c, other, name(server), [AMD64]))


def test_skopeo_reads_what_we_wrote(server: RegistryServer, layout: Layout, tmp_path: Path) -> None:
    index = image(layout)
    push_it(server, layout, index, name(server))
    command = ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name(server)}"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == index.raw


def test_a_source_reads_from_the_registry(server: RegistryServer, layout: Layout) -> None:
    index = image(layout)
    push_it(server, layout, index, name(server))
    with open_source(Location("docker", name(server))) as source:
        assert source.top().raw == index.raw
        assert isinstance(index.value, Index)
        manifest = source.document(index.value.manifests[1]).value
        assert isinstance(manifest, Manifest)
        assert source.fetch(manifest.config) == layout.read(manifest.config.digest)
        with source.open(manifest.layers[1]) as chunks:
            assert b"".join(chunks) == layout.read(manifest.layers[1].digest, LAYER)
        with source.open(manifest.layers[1]) as chunks:
            next(chunks)  # and stop early
        with pytest.raises(InputError, match="larger"):
            source.fetch(manifest.layers[1], 10)
        gone = Descriptor(media_type=OCI_LAYER, digest=f"sha256:{'0' * 64}", size=1)
        with pytest.raises(InputError, match="missing"), source.open(gone) as chunks:
            next(chunks)


def test_tags_deletion_and_unknown_names(server: RegistryServer, layout: Layout) -> None:
    index = image(layout, size=1000)
    push_it(server, layout, index, name(server, tag="1"))
    push_it(server, layout, index, name(server, tag="2"))
    assert sorted(go(server.host, lambda c: c.tags("team/app"))) == ["1", "2"]
    go(server.host, lambda c: c.delete(name(server).with_digest(index.digest)))
    with pytest.raises(InputError, match="no such image"):
        go(server.host, lambda c: c.get_manifest(name(server)))
    with pytest.raises(InputError, match="no such repository"):
        go(server.host, lambda c: c.tags("nobody"))


def test_referrers_are_kept_in_a_tag_where_the_registry_has_no_api(server: RegistryServer, layout: Layout) -> None:
    index = image(layout, size=1000)
    push_it(server, layout, index, name(server))
    signed = name(server).with_digest(index.digest)
    assert go(server.host, lambda c: c.referrers(signed)) == ()
    for kind in ("a/signature", "a/sbom"):
        empty = Descriptor(media_type=kind, digest=layout.add(b"{}"), size=2)
        about = Manifest(schema_version=2, media_type=OCI_MANIFEST, artifact_type=kind, config=empty, layers=(),
                         subject=index.descriptor)  # fmt: skip
        artifact = document(about)
        push_it(server, layout, artifact, name(server).with_digest(artifact.digest))
    assert {each.artifact_type for each in go(server.host, lambda c: c.referrers(signed))} == {"a/signature", "a/sbom"}
    assert len(go(server.host, lambda c: c.referrers(signed, "a/sbom"))) == 1


def test_a_password_lets_in_and_a_wrong_one_does_not(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = image(layout, size=1000)
    with registry_server(tmp_path / "registry", auth=True) as server:
        with pytest.raises(RegistryError, match="refuses access") as nobody:
            push_it(server, layout, index, name(server))
        assert nobody.value.hint == f"podman login {server.host}"
        assert "no credentials" in nobody.value.detail
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.write_auth_file("wrong-password")))
        with pytest.raises(RegistryError, match="refuses access") as wrong:
            push_it(server, layout, index, name(server))
        assert "not accepted" in wrong.value.detail
        assert "wrong-password" not in str(wrong.value.as_dict())
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.write_auth_file()))
        assert set(push_it(server, layout, index, name(server))) == {"sent"}


def test_a_registry_that_wants_tokens_gets_them_for_what_is_done(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = image(layout, size=1000)
    tokens = token_server(tmp_path / "tokens", USER, PASSWORD)
    with tokens as issuer, registry_server(tmp_path / "registry", tokens=issuer.settings) as server:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.write_auth_file("wrong-password")))
        with pytest.raises(RegistryError, match="refuses access") as wrong:
            push_it(server, layout, index, name(server))
        assert wrong.value.hint == f"podman login {server.host}"
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.write_auth_file()))
        assert set(push_it(server, layout, index, name(server))) == {"sent"}
        repository = name(server).repository
        assert {scope for scopes in issuer.asked for scope in scopes} <= {
            f"repository:{repository}:{actions}" for actions in ("pull", "pull,push")
        }
        issuer.asked.clear()
        fetched = Layout(tmp_path / "fetched")
        go(server.host, lambda c: pull(c, fetched, name(server)))
        assert fetched.whole(index.digest)
        assert issuer.asked == [(f"repository:{repository}:pull",)]  # one token serves all that is fetched


def test_a_token_that_ends_is_renewed(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    index = image(layout, size=1000)
    tokens = token_server(tmp_path / "tokens", USER, PASSWORD, lifetime=1)
    with tokens as issuer, registry_server(tmp_path / "registry", tokens=issuer.settings) as server:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(server.write_auth_file()))
        assert set(push_it(server, layout, index, name(server))) == {"sent"}
        assert len(issuer.asked) > 1


def test_tls_is_verified_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registry_server(tmp_path / "registry", tls=True) as server:
        with pytest.raises(InputError, match="cannot be trusted") as caught:
            go(server.host, lambda c: c.ping())
        assert "--tls-verify=false" in caught.value.hint
        go(server.host, lambda c: c.ping(), tls_verify=False)
        with monkeypatch.context() as patched:
            patched.setenv("SSL_CERT_FILE", str(server.authority))
            go(server.host, lambda c: c.ping())
        folder = tmp_path / "certs.d" / server.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes(server.authority.read_bytes())
        go(server.host, lambda c: c.ping())


def test_push_goes_on_where_a_killed_server_left_it(server: RegistryServer, layout: Layout) -> None:
    index = image(layout)
    patches = 0

    def kill_in_the_middle(request: httpx.Request) -> None:
        nonlocal patches
        patches += request.method == "PATCH"
        if patches == 8:
            server.kill()

    with pytest.raises(RegistryError, match="stopped answering|does not take"):
        push_it(server, layout, index, name(server), transport=Watched(kill_in_the_middle))
    server.start()
    with pytest.raises(InputError, match="no such"):
        go(server.host, lambda c: c.head_manifest(name(server)))
    hows = push_it(server, layout, index, name(server))
    assert "exists" in hows
    assert "sent" in hows
    assert go(server.host, lambda c: c.head_manifest(name(server))).digest == index.digest


def test_an_upload_survives_a_restart_of_the_server(server: RegistryServer, layout: Layout) -> None:
    index = image(layout, (AMD64,))
    patches = 0

    def restart(request: httpx.Request) -> None:
        nonlocal patches
        patches += request.method == "PATCH"
        if request.method == "PATCH" and patches == 3:
            server.kill()
            server.start()

    watched = Watched(restart)
    push_it(server, layout, index, name(server), transport=watched)
    assert watched.count("PATCH", "") <= LAYER // PIECE + 2
    assert go(server.host, lambda c: c.head_manifest(name(server))).digest == index.digest


def test_the_tag_points_to_the_old_image_until_the_new_one_is_whole(server: RegistryServer, layout: Layout) -> None:
    old, new = image(layout, size=1000), image(layout, size=2000)
    push_it(server, layout, old, name(server))

    def kill_before_the_index(request: httpx.Request) -> None:
        if request.method == "PUT" and request.url.path.endswith("/manifests/1"):
            server.kill()

    with pytest.raises(TransientError, match="stopped answering"):
        push_it(server, layout, new, name(server), transport=Watched(kill_before_the_index))
    server.start()
    assert go(server.host, lambda c: c.head_manifest(name(server))).digest == old.digest
    assert set(push_it(server, layout, new, name(server))) == {"exists"}
    assert go(server.host, lambda c: c.head_manifest(name(server))).digest == new.digest


class Cut(httpx.AsyncByteStream):
    """A body whose connection breaks after so many bytes, when `on_cut` has been called."""

    def __init__(self, inner: httpx.AsyncByteStream, after: int, on_cut: Callable[[], None]) -> None:
        self.inner = inner
        self.after = after
        self.on_cut = on_cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self.after
        async for chunk in self.inner:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                self.on_cut()
                raise httpx.ReadError("connection reset by peer")

    async def aclose(self) -> None:
        await self.inner.aclose()


def cut_large_bodies(response: httpx.Response, on_cut: Callable[[], None] = lambda: None) -> httpx.Response:
    assert isinstance(response.stream, httpx.AsyncByteStream)
    if int(response.headers.get("Content-Length", "0")) > 4_000_000:
        response.stream = Cut(response.stream, 3_500_000, on_cut)
    return response


def test_a_cut_download_is_taken_up(server: RegistryServer, layout: Layout, tmp_path: Path) -> None:
    index = image(layout, (AMD64,))
    push_it(server, layout, index, name(server))
    other = Layout(tmp_path / "other")
    watched = Watched(change=cut_large_bodies)
    go(server.host, lambda c: pull(c, other, name(server)), transport=watched)
    other.tag(index, ["image"])
    assert [r.headers["Range"] for r in watched.requests if "Range" in r.headers] == ["bytes=3500000-"]


def test_a_download_is_taken_up_by_the_next_pull(server: RegistryServer, layout: Layout, tmp_path: Path) -> None:
    index = image(layout, (AMD64,))
    push_it(server, layout, index, name(server))
    other = Layout(tmp_path / "other")

    watched = Watched(change=lambda response: cut_large_bodies(response, server.kill))
    with pytest.raises(TransientError, match="stopped answering"):
        go(server.host, lambda c: pull(c, other, name(server)), transport=watched)
    server.start()
    watched = Watched()
    go(server.host, lambda c: pull(c, other, name(server)), transport=watched)
    other.tag(index, ["image"])
    assert "bytes=3500000-" in [r.headers.get("Range") for r in watched.requests]


def test_a_begun_download_with_wrong_bytes_is_thrown_away(
    server: RegistryServer, layout: Layout, tmp_path: Path
) -> None:
    index = image(layout, (AMD64,))
    push_it(server, layout, index, name(server))
    assert isinstance(index.value, Index)
    manifest = layout.document(index.value.manifests[0]).value
    assert isinstance(manifest, Manifest)
    other = Layout(tmp_path / "other")
    part = other.path / "incoming" / f"{manifest.layers[1].digest.partition(':')[2]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not the beginning")
    with pytest.raises(RegistryError, match="digest"):
        go(server.host, lambda c: pull(c, other, name(server)))
    assert not part.exists()
    go(server.host, lambda c: pull(c, other, name(server)))
    other.tag(index, ["image"])


def test_a_missing_blob_stops_a_push_before_anything_is_tagged(server: RegistryServer, layout: Layout) -> None:
    index = image(layout, size=1000)
    assert isinstance(index.value, Index)
    manifest = layout.document(index.value.manifests[1]).value
    assert isinstance(manifest, Manifest)
    layout.blob_path(manifest.layers[1].digest).unlink()
    with pytest.raises(InputError, match="missing"):
        go(server.host, lambda c: push(c, layout, index, name(server), silent))
    with pytest.raises(InputError, match="no such"):
        go(server.host, lambda c: c.head_manifest(name(server)))


def test_an_image_of_podmans_storage_is_read(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = tmp_path / "storage.conf"
    conf.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/graph"\nrunroot = "{tmp_path}/run"\n')
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(conf))
    data = BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("file"))
    diff_id = layout.add(data.getvalue())
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()
    described = Descriptor(media_type=OCI_CONFIG, digest=layout.add(config), size=len(config))
    only = Descriptor(media_type=OCI_LAYER, digest=diff_id, size=len(data.getvalue()))
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=described, layers=(only,))
    layout.tag(document(manifest), ["image"])
    target = "containers-storage:localhost/polyarch-test:1"
    subprocess.run(["skopeo", "copy", "--quiet", f"oci:{layout.path}:image", target], check=True)
    with open_source(parse_location(target)) as source:
        found = source.top().value
        assert isinstance(found, Manifest)
        with source.open(found.layers[0]) as chunks:
            assert b"".join(chunks) == data.getvalue()
    with pytest.raises(InputError, match="podman's storage"), open_source(parse_location(target + "0")):
        pass
