"""`polyarch index` over layouts and Debian's docker-registry: changed, copied, mended, killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_images import Told, attestation, attested, platforms, proved, shelf_of, shelve
from registry_server import RegistryServer, available, registry_server
from test_broken_images import BROKEN
from verify_images import Shelf, Spec, add, image, layer, root

from polyarch.errors import InputError, PolyarchError, ProofError
from polyarch.index import edit, work
from polyarch.index.repair import repair
from polyarch.index.work import Shop
from polyarch.oci import model
from polyarch.oci.layout import Layout
from polyarch.oci.model import Document, Index
from polyarch.oci.reference import parse_reference
from polyarch.registry.client import Registry
from polyarch.registry.push import push
from polyarch.registry.source import RegistrySource
from polyarch.verify import verify

needs_registry = pytest.mark.skipif(not available(), reason="docker-registry is not installed")
AMD64, ARM64, S390X = "linux/amd64", "linux/arm64", "linux/s390x"

# What repair must make clean; of everything else in the corpus it must say that it cannot.
MENDED = {
    "a manifest of schema 1", "a manifest without schemaVersion",
    "a manifest type that does not exist", "a layer type that does not exist",
    "a config type that does not exist", "a manifest described as Docker's that calls itself OCI's",
    "a manifest described as an index", "gzip declared as tar", "tar declared as gzip", "zstd declared as gzip",
    "gzip declared as zstd", "zstd annotated as chunked without a footer", "a wrong size of a layer",
    "a wrong size of a config", "a wrong size of a manifest", "a size below nothing", "an entry without a platform",
    "a config of another platform", "a config of another variant", "two images for a platform", "one image twice",
    "one image for two platforms", "an attestation of an image that is gone", "indexes in indexes in indexes",
    "an ARMv7 library on arm/v6", "a platform that nobody knows",
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Layout:
    return Layout(home / "images")


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def shop(store: Layout, told: Told) -> Shop:
    return Shop(store, told)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    with registry_server(tmp_path / "registry") as running:
        yield running


def source(folder: Path, shelf: Shelf, tag: str = "x") -> str:
    """A layout with the image, as a reference."""
    shelve(shelf, Layout(folder), tag)
    return f"oci:{folder}:{tag}"


def in_registry(server: RegistryServer, name: str) -> Document:
    with RegistrySource(parse_reference(f"{server.host}/{name}")) as found:
        return found.top()


def digests(document: Document) -> list[str]:
    assert isinstance(document.value, Index)
    return [entry.digest for entry in document.value.manifests]


def test_an_index_is_made_of_plain_manifests_and_indexes(tmp_path: Path, shop: Shop, store: Layout) -> None:
    indexed = source(tmp_path / "a", attested(AMD64))
    other = image(Spec(ARM64))
    plain = Layout(tmp_path / "b")
    shelve(other, plain, "index")
    value = other.top().value
    assert isinstance(value, Index)
    plain.tag(plain.document(value.manifests[0]), ["plain"])
    made = work.create(shop, "app:1", [indexed, f"oci:{plain.path}:plain"])
    assert platforms(made) == [AMD64, "attestation", ARM64]
    assert store.find("docker.io/library/app:1") == made
    assert proved(store, "docker.io/library/app:1").ok


def test_add_refuses_a_platform_that_is_there(tmp_path: Path, shop: Shop) -> None:
    first, second = (source(tmp_path / name, attested(AMD64, note=name)) for name in "ab")
    before = work.create(shop, "app", [first])
    with pytest.raises(InputError, match="linux/amd64 is there already") as caught:
        work.change(shop, "app", [second], edit.add)
    assert "index replace" in caught.value.hint
    added = work.change(shop, "app", [source(tmp_path / "c", image(Spec(S390X)))], edit.add)
    assert digests(added)[:2] == digests(before)
    assert platforms(added) == [AMD64, "attestation", S390X]


def test_replace_never_makes_a_duplicate_and_attestations_go_with_their_image(tmp_path: Path, shop: Shop) -> None:
    old = work.create(shop, "app", [source(tmp_path / "a", attested(AMD64, ARM64))])
    new = source(tmp_path / "b", attested(ARM64, note="new"))
    made = work.change(shop, "app", [new], edit.replace)
    assert sorted(platforms(made)) == ["attestation", "attestation", AMD64, ARM64]
    kept = set(digests(made)) & set(digests(old))
    assert kept == {digests(old)[0], digests(old)[2]}
    assert work.change(shop, "app", [new], edit.replace) == made


def test_remove_takes_the_attestation_along_and_leaves_an_image(tmp_path: Path, shop: Shop) -> None:
    old = work.create(shop, "app", [source(tmp_path / "a", attested(AMD64, ARM64))])
    made = work.change(shop, "app", [], lambda index, _: edit.remove(index, [AMD64]))
    assert digests(made) == [digests(old)[1], digests(old)[3]]
    with pytest.raises(InputError, match="no image would be left"):
        work.change(shop, "app", [], lambda index, _: edit.remove(index, [ARM64]))


def test_a_docker_list_stays_one(tmp_path: Path, shop: Shop) -> None:
    shelf = Shelf()
    docker = [add(shelf, Spec(p, manifest=_docker, entry=_docker_entry)) for p in (AMD64, ARM64)]
    name = source(tmp_path / "a", shelf_of(docker[:1], shelf, model.DOCKER_LIST))
    work.copy(shop, name, "app")
    made = work.change(shop, "app", [source(tmp_path / "b", shelf_of(docker[1:], shelf))], edit.add)
    assert made.media_type == made.value.media_type == model.DOCKER_LIST
    assert platforms(made) == [AMD64, ARM64]
    with pytest.raises(InputError, match="Docker manifest list has no annotations"):
        work.change(shop, "app", [], lambda index, _: edit.annotate(index, {"a": "b"}))


def test_what_would_lie_is_not_tagged(tmp_path: Path, shop: Shop, store: Layout) -> None:
    good = work.create(shop, "app", [source(tmp_path / "a", image(Spec(AMD64)))])
    liar = image(Spec(ARM64, [layer(*root(AMD64))]))
    with pytest.raises(ProofError, match="is not what it says"):
        work.change(shop, "app", [source(tmp_path / "b", liar)], edit.add)
    assert store.find("docker.io/library/app:latest") == good


def test_a_name_that_changed_meanwhile_is_left_alone(tmp_path: Path, shop: Shop, store: Layout) -> None:
    work.create(shop, "app", [source(tmp_path / "a", image(Spec(AMD64)))])
    other = source(tmp_path / "b", image(Spec(S390X)))

    def slow(index: Index, entries: tuple[model.Descriptor, ...]) -> Index:
        work.create(shop, "app", [other])
        return edit.add(index, entries)

    with pytest.raises(InputError, match="changed by somebody else"):
        work.change(shop, "app", [source(tmp_path / "c", image(Spec(ARM64)))], slow)
    found = store.find("docker.io/library/app:latest")
    assert found is not None
    assert platforms(found) == [S390X]


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_a_broken_image_is_mended_or_named(what: str, tmp_path: Path, shop: Shop, store: Layout) -> None:
    code, make = BROKEN[what]
    shelf = make()
    name = source(tmp_path / "broken", shelf)
    before = proved(Layout(tmp_path / "broken"), "x")
    done = repair(shop, name, "mended:1")
    if what in MENDED:
        assert done.problem is None
        assert done.changes
        assert not [v for v in proved(store, "docker.io/library/mended:1").violations if v.code == code]
        assert proved(store, "docker.io/library/mended:1").ok
    elif before.ok:
        assert done.problem is None
        assert done.document.raw == shelf.top().raw
        assert done.changes == ()
    else:
        assert done.problem is not None
        assert store.find("docker.io/library/mended:1") is None
        assert done.problem.exit_code == 3
    assert proved(Layout(tmp_path / "broken"), "x") == before  # what was broken is left as it was


def test_many_faults_are_mended_at_once(tmp_path: Path, shop: Shop, store: Layout) -> None:
    """An image stamped arm64 with x86 programs, a layer type that lies, a type that does not exist, twice."""
    shelf = Shelf()
    bad = layer(*root(AMD64))
    bad.type = model.OCI_LAYER
    liar = add(shelf, Spec(ARM64, [bad]))
    twin = {**liar, "mediaType": f"{model.OCI_MANIFEST}+gzip", "size": liar["size"] + 7}
    honest = add(shelf, Spec(S390X))
    name = source(tmp_path / "a", shelf_of([liar, twin, honest, attestation(shelf, liar["digest"])], shelf))
    done = repair(shop, name, "mended")
    assert done.problem is None
    assert platforms(done.document) == [AMD64, S390X, "attestation"]
    assert digests(done.document)[1] == honest["digest"]
    assert proved(store, "docker.io/library/mended:latest").violations == ()
    about = {change.what for change in done.changes}
    assert {"platform", "platform.architecture", "layers[0].mediaType", "mediaType", "size"} <= about


def test_the_honest_of_two_images_is_kept(tmp_path: Path, shop: Shop) -> None:
    """A liar that proves to be amd64 does not push out the image that was called so."""
    shelf = Shelf()
    honest = add(shelf, Spec(AMD64))
    liar = add(shelf, Spec(ARM64, [layer(*root(AMD64), *root(AMD64)[:1])]))
    done = repair(shop, source(tmp_path / "a", shelf_of([honest, liar], shelf)), "mended")
    assert digests(done.document) == [honest["digest"]]


def test_repair_of_what_is_whole_changes_nothing(tmp_path: Path, shop: Shop) -> None:
    shelf = attested(AMD64, ARM64, "linux/arm/v6", "linux/arm/v7")
    done = repair(shop, source(tmp_path / "a", shelf), f"oci:{tmp_path / 'new'}:x")
    assert done.changes == ()
    assert done.document.raw == shelf.top().raw


@needs_registry
def test_copy_moves_only_missing_blobs(tmp_path: Path, shop: Shop, told: Told, server: RegistryServer) -> None:
    name = source(tmp_path / "a", attested(AMD64, ARM64))
    target = f"docker://{server.host}/team/app:1"
    work.copy(shop, name, target)
    all_blobs = uploads(server)
    assert all_blobs == told.moved()[1] > 0
    assert in_registry(server, "team/app:1").raw == Layout(tmp_path / "a").find("x").raw  # type: ignore[union-attr]
    work.copy(shop, name, f"docker://{server.host}/team/app:2")
    assert uploads(server) == all_blobs
    more = source(tmp_path / "b", attested(AMD64, ARM64, S390X))
    told.events.clear()
    work.copy(shop, more, target)
    # The new platform has a layer, a config and an attestation's statement of its own.
    assert uploads(server) - all_blobs == told.moved()[1] == 3


@needs_registry
def test_copy_within_a_registry_mounts(
    tmp_path: Path, shop: Shop, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.copy(shop, source(tmp_path / "a", attested(AMD64)), f"docker://{server.host}/staging/app:1")
    sent = uploads(server)
    told = Told()
    # The proof is kept; the blobs are not, as on another machine that saw the image before.
    elsewhere = Shop(Layout(tmp_path / "elsewhere"), told)
    made = work.copy(elsewhere, f"docker://{server.host}/staging/app:1", f"docker://{server.host}/prod/app:1")
    assert in_registry(server, "prod/app:1") == made
    assert uploads(server) == sent
    assert told.moved() == (0, 0)


@needs_registry
def test_copy_out_of_a_registry_fetches_only_what_is_missing(
    tmp_path: Path, shop: Shop, told: Told, server: RegistryServer
) -> None:
    work.copy(shop, source(tmp_path / "a", attested(AMD64, ARM64)), f"docker://{server.host}/app:1")
    reference, target = f"docker://{server.host}/app:1", f"oci:{tmp_path / 'out'}:1"
    made = work.copy(shop, reference, target)
    fetched = told.moved()[0]
    assert fetched > 0
    assert Layout(tmp_path / "out").find("1") == made
    work.copy(shop, reference, f"oci:{tmp_path / 'out'}:2")
    assert told.moved()[0] == fetched


@needs_registry
def test_an_index_in_a_registry_is_changed_without_the_old_layers(
    tmp_path: Path, shop: Shop, told: Told, server: RegistryServer
) -> None:
    name = f"docker://{server.host}/app:1"
    work.copy(shop, source(tmp_path / "a", attested(AMD64)), name)
    told.events.clear()
    made = work.change(shop, name, [source(tmp_path / "b", attested(ARM64))], edit.add)
    assert in_registry(server, "app:1") == made
    assert platforms(made) == [AMD64, "attestation", ARM64, "attestation"]
    assert told.moved() == (2, 3)  # a config is read for its platform before anything is fetched
    made = work.change(shop, name, [], lambda index, _: edit.annotate(index, {"org.example.a": "b"}))
    assert in_registry(server, "app:1").value.annotations == {"org.example.a": "b"}
    assert told.moved() == (2, 3)


@needs_registry
def test_a_registry_killed_in_the_middle_keeps_the_old_name(
    tmp_path: Path, store: Layout, server: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyarch.registry.retry.backoff", lambda _attempt: 0.02)
    name = f"docker://{server.host}/app:1"
    old = work.copy(Shop(store, Told()), source(tmp_path / "a", attested(AMD64)), name)
    new = source(tmp_path / "b", attested(AMD64, ARM64, S390X, note="new"))

    class Killer(Told):
        def __call__(self, event: model.Any) -> None:
            super().__call__(event)
            if self.moved()[1] == 2:
                server.kill()

    with pytest.raises(PolyarchError):
        work.copy(Shop(store, Killer()), new, name)
    server.start()
    assert in_registry(server, "app:1") == old
    told = Told()
    assert in_registry(server, "app:1") != work.copy(Shop(store, told), new, name)
    assert told.moved()[0] == 0  # what was fetched is kept


@needs_registry
def test_an_image_of_a_registry_is_mended_in_the_registry(tmp_path: Path, shop: Shop, server: RegistryServer) -> None:
    bad = layer(*root(AMD64))
    bad.type = model.OCI_LAYER
    broken = Layout(tmp_path / "a")
    top = shelve(image(Spec(ARM64, [bad]), Spec(S390X)), broken, "x")

    async def push_unproved() -> None:
        async with Registry(server.host) as client:
            await push(client, broken, top, parse_reference(f"{server.host}/app:1"), Told())

    asyncio.run(push_unproved())
    done = repair(shop, f"docker://{server.host}/app:1", f"docker://{server.host}/app:mended")
    assert done.problem is None
    assert in_registry(server, "app:mended") == done.document
    assert in_registry(server, "app:1").raw == top.raw
    with RegistrySource(parse_reference(f"{server.host}/app:mended")) as found:
        assert verify(found).violations == ()


def test_a_copy_killed_in_the_middle_leaves_the_old_name(tmp_path: Path, home: Path) -> None:
    """SIGKILL at any moment: the tag names a whole image, and the next run finishes."""
    target = f"oci:{tmp_path / 'out'}:x"
    layout = Layout(tmp_path / "out")
    polyarch("index", "copy", source(tmp_path / "a", image(Spec(AMD64))), target)
    old = layout.find("x")
    new = source(tmp_path / "b", attested(AMD64, ARM64, S390X, "linux/arm/v7", note="new"))
    for delay in (0.1, 0.2, 0.25, 0.3, 0.35, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-m", "polyarch", "index", "copy", new, target],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
        )  # fmt: skip
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = layout.find("x")
        assert found is not None
        assert found == old or layout.whole(found.digest)
    polyarch("index", "copy", new, target)
    assert proved(layout, "x").ok
    assert layout.find("x") != old


def test_the_command_line_tells_what_was_mended_and_what_was_not(tmp_path: Path, home: Path) -> None:
    liar = source(tmp_path / "a", image(Spec(ARM64, [layer(*root(AMD64))])))
    done = polyarch("index", "repair", liar, "-t", "mended")
    assert "platform.architecture" in done.stdout
    assert "arm64" in done.stdout
    assert json.loads(polyarch("inspect", "mended", "--json").stdout)["entries"][0]["platform"] == AMD64
    raw = polyarch("inspect", "mended", "--raw").stdout
    assert model.digest_of(raw.encode()) == done.stdout.split()[-1]
    code, make = BROKEN["an x86 program in an arm64 image"]
    failed = polyarch("index", "repair", source(tmp_path / "b", make()), "-t", "other", check=False)
    assert failed.returncode == 3
    assert "not all can be mended" in failed.stderr
    assert code in failed.stderr
    assert polyarch("verify", "mended").returncode == 0
    annotated = polyarch("index", "annotate", "mended", "a=b", "c=").stdout.strip()
    assert json.loads(polyarch("inspect", "mended", "--raw").stdout)["annotations"] == {"a": "b"}
    assert json.loads(polyarch("index", "annotate", "mended", "a=b", "--json").stdout)["digest"] == annotated


def uploads(server: RegistryServer) -> int:
    """The blobs that were uploaded (not mounted): PUTs that closed an upload."""
    return len(re.findall(r'"PUT /v2/\S+/blobs/uploads/\S+ HTTP/1.1" 201', server.log()))


def polyarch(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "polyarch", *words], capture_output=True, text=True, env=os.environ)
    assert not check or done.returncode == 0, done.stderr
    return done


def _docker(manifest: dict[str, model.Any]) -> None:
    manifest["mediaType"] = model.DOCKER_MANIFEST
    manifest["config"]["mediaType"] = model.DOCKER_CONFIG
    for each in manifest["layers"]:
        each["mediaType"] = model.DOCKER_LAYER


def _docker_entry(entry: dict[str, model.Any]) -> None:
    entry["mediaType"] = model.DOCKER_MANIFEST
