"""A graft of hand-made images: what is put together, and each refusal."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from verify_images import Entry, Layer, elf, file, layer, program

from polyarch.arch import parse_platform
from polyarch.build.compare import demand_same
from polyarch.build.graft import Grafted, Grafter, RefusedError, load
from polyarch.errors import ProofError
from polyarch.oci.layout import Layout
from polyarch.oci.model import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Manifest, document

AMD64, ARM64 = map(parse_platform, ("amd64", "arm64"))
PATH = "PATH=/usr/bin"


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path / "cache"))
    return Layout(tmp_path / "images")


def image(layout: Layout, architecture: str, layers: list[Layer], run: dict[str, Any], steps: list[str]) -> Descriptor:
    diff_ids = [f"sha256:{hashlib.sha256(one.plain).hexdigest()}" for one in layers]
    history = [{"created_by": step} for step in steps]
    config = {
        "architecture": architecture, "os": "linux", "config": run, "history": history,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }  # fmt: skip
    raw = json.dumps(config).encode()
    blobs = [Descriptor(media_type=OCI_LAYER_GZIP, digest=layout.add(one.blob), size=len(one.blob)) for one in layers]
    manifest = Manifest(
        schema_version=2, media_type=OCI_MANIFEST, layers=tuple(blobs),
        config=Descriptor(media_type=OCI_CONFIG, digest=layout.add(raw), size=len(raw)),
    )  # fmt: skip
    return layout.store(document(manifest))


def lower(architecture: str, version: str = "1") -> Layer:
    packages = f"Package: libc6\nStatus: install ok installed\nVersion: {version}\nArchitecture: {architecture}\n"
    return layer(file("var/lib/dpkg/status", packages.encode()), program("usr/bin/sh", elf(architecture)))


def bases(layout: Layout, *, version: str = "1", run: dict[str, Any] | None = None) -> tuple[str, str]:
    native = image(layout, "amd64", [lower("amd64")], {"Env": [PATH], "Labels": {"arch": "x86_64"}}, ["base"])
    said = run or {"Env": [PATH], "Labels": {"arch": "aarch64"}}
    return native.digest, image(layout, "arm64", [lower("arm64", version)], said, ["base for arm64"]).digest


def built(
    layout: Layout, *entries: Entry, run: dict[str, Any] | None = None, architecture: str = "amd64"
) -> Descriptor:
    above = layer(*entries)
    said = {"Env": [PATH, "A=1"], "Labels": {"arch": "x86_64", "mine": "yes"}, "Cmd": ["sh"]} | (run or {})
    steps = ["base", "/bin/sh -c #(nop) COPY a /a"]
    return image(layout, architecture, [lower(architecture), above], said, steps)


def graft(layout: Layout, native: Descriptor, pair: tuple[str, str]) -> Grafted:
    return asyncio.run(Grafter(layout, docker_format=False).graft(native, pair, ARM64))


def test_the_target_base_carries_the_very_layers_and_the_settings_of_the_build(layout: Layout) -> None:
    native, pair = built(layout, file("a", b"text")), bases(layout)
    made = graft(layout, native, pair)
    manifest = layout.document(made.descriptor).value
    assert isinstance(manifest, Manifest)
    source = layout.document(native).value
    assert isinstance(source, Manifest)
    assert manifest.layers[1:] == source.layers[1:]
    config = json.loads(layout.read(manifest.config.digest))
    assert config["architecture"] == "arm64"
    assert config["config"] == {"Env": [PATH, "A=1"], "Labels": {"arch": "aarch64", "mine": "yes"}, "Cmd": ["sh"]}
    assert [step["created_by"] for step in config["history"]] == ["base for arm64", "/bin/sh -c #(nop) COPY a /a"]
    promise = json.loads((manifest.annotations or {})["io.polyarch.graft"])
    assert promise == {
        "v": 1, "native": native.digest, "bases": list(pair), "layers": [source.layers[1].digest],
    }  # fmt: skip
    assert made.descriptor.platform is not None
    assert made.descriptor.platform.platform == ARM64


def test_an_image_from_scratch_needs_no_bases(layout: Layout) -> None:
    native = image(layout, "amd64", [layer(file("index.html", b"text"))], {}, ["COPY"])
    assert graft(layout, native, ("", "")).descriptor.digest != native.digest


@pytest.mark.parametrize(
    ("entry", "run", "said"),
    [
        (program("a", elf()), {}, "layer 1 (COPY a /a): /a: an ELF file"),
        (file("var/lib/dpkg/status"), {}, "/var/lib/dpkg/status: the package database is changed"),
        (file("a"), {"Env": [PATH, "L=/lib/x86_64-linux-gnu"]}, "config: Env L=/lib/x86_64-linux-gnu"),
        (file("a"), {"Entrypoint": ["/app-amd64"]}, "config: Entrypoint"),
        (file("a"), {"Labels": {"arch": "x86_64", "build": "amd64"}}, "config: Labels build"),
    ],
)
def test_a_refusal_names_layer_file_and_reason(layout: Layout, entry: Entry, run: dict[str, Any], said: str) -> None:
    with pytest.raises(ProofError) as refused:
        graft(layout, built(layout, entry, run=run), bases(layout))
    assert said in refused.value.detail
    assert said in refused.value.message


def test_the_layers_before_a_bound_one_make_an_image_with_the_settings_of_the_base(layout: Layout) -> None:
    parts = [lower("amd64"), layer(file("a")), layer(file("b")), layer(program("c", elf())), layer(file("d"))]
    steps = ["base", "COPY a", "COPY b", "RUN c", "COPY d"]
    native, pair = image(layout, "amd64", parts, {"Env": [PATH], "Cmd": ["d"]}, steps), bases(layout)
    grafter = Grafter(layout, docker_format=False)
    with pytest.raises(RefusedError, match=r"layer 3 \(RUN c\): /c: an ELF file") as refused:
        asyncio.run(grafter.graft(native, pair, ARM64))
    free = refused.value.free
    prefix = asyncio.run(grafter.prefix(native, pair, ARM64, free, 4))
    assert prefix is not None
    assert (free, prefix.done) == (2, 2)
    stored = load(layout, prefix.descriptor.digest)
    assert [step["created_by"] for step in stored.history] == ["base for arm64", "COPY a", "COPY b"]
    assert stored.run == {"Env": [PATH], "Labels": {"arch": "aarch64"}}
    assert len(stored.diff_ids) == len(stored.manifest.layers) == 3
    assert asyncio.run(grafter.prefix(native, pair, ARM64, free, 7)) is None, "the history is of other instructions"


def test_bases_of_two_releases_are_refused(layout: Layout) -> None:
    with pytest.raises(ProofError, match="the bases are not the same release: libc6 1 and 2"):
        graft(layout, built(layout, file("a")), bases(layout, version="2"))


def test_an_image_on_another_base_is_refused(layout: Layout) -> None:
    native, target = bases(layout)
    other = image(layout, "amd64", [layer(file("other"))], {}, ["base"]).digest
    assert native != other
    with pytest.raises(ProofError, match="does not stand on its base"):
        graft(layout, built(layout, file("a")), (other, target))


def test_trees_that_differ_are_told_by_path_and_volatile_files_are_not(layout: Layout) -> None:
    pair = bases(layout)
    made = graft(layout, built(layout, file("a", b"one"), file("var/cache/x", b"1"), file("only")), pair).descriptor
    emulated = built(layout, file("a", b"two"), file("var/cache/x", b"2"), program("b", b""), architecture="arm64")
    with pytest.raises(ProofError) as refused:
        demand_same(layout, made, emulated, pair[1], ARM64)
    assert refused.value.detail.splitlines()[:3] == [
        "/a: content differ", "/b: in the emulated image only", "/only: in the grafted image only",
    ]  # fmt: skip


def test_owner_mode_and_removal_are_compared_and_the_time_of_compiled_python_is_not(layout: Layout) -> None:
    pair = bases(layout)
    code = b"\xf3\r\r\n" + bytes(4)
    run = {"Labels": {"arch": "aarch64", "mine": "yes"}}
    entries = [file("x.pyc", code + b"\x01" * 8 + b"code"), file("etc/.wh.issue")]
    made = graft(layout, built(layout, *entries, file("m", b"")), pair).descriptor
    other = [file("x.pyc", code + b"\x02" * 8 + b"code"), file("etc/.wh.issue")]
    same = built(layout, *other, file("m", b""), run=run, architecture="arm64")
    assert demand_same(layout, made, same, pair[1], ARM64) == 3
    moved = built(layout, *other, file("m", b"", 0o600), run=run, architecture="arm64")
    with pytest.raises(ProofError) as refused:
        demand_same(layout, made, moved, pair[1], ARM64)
    assert refused.value.detail == "/m: mode differ"
