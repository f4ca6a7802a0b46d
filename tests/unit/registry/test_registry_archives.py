from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.errors import InputError, PolyarchError
from polyarch.oci.model import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    REF_NAME,
    Descriptor,
    Manifest,
    digest_of,
    document,
)
from polyarch.oci.reference import parse_location
from polyarch.oci.source import Source
from polyarch.registry.archives import docker_archive, oci_archive, open_tar
from polyarch.registry.source import open_source

LAYER = b"a layer, or so it says" * 100
CONFIG = json.dumps(
    {"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(LAYER)]}}
).encode()


def tar(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w") as out:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            out.addfile(member)
    return path


def layout_files(*tags: str) -> dict[str, bytes]:
    image = document(
        Manifest(
            schema_version=2, media_type=OCI_MANIFEST,
            config=Descriptor(media_type=OCI_CONFIG, digest=digest_of(CONFIG), size=len(CONFIG)),
            layers=(Descriptor(media_type=OCI_LAYER, digest=digest_of(LAYER), size=len(LAYER)),),
        )
    )  # fmt: skip
    entries = [image.descriptor.model_copy(update={"annotations": {REF_NAME: tag}}).wire() for tag in tags]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    blobs = {f"blobs/{digest_of(data).replace(':', '/')}": data for data in (CONFIG, LAYER, image.raw)}
    return {"./index.json": index, "oci-layout": b"{}"} | blobs


def docker_files(layer: bytes = LAYER, *tags: str) -> dict[str, bytes]:
    listed = [{"Config": "c.json", "RepoTags": list(tags), "Layers": ["l/layer.tar"]}]
    return {"manifest.json": json.dumps(listed).encode(), "c.json": CONFIG, "l.tar": layer}


LINK = {"l/layer.tar": "../l.tar"}


def layers(source: Source) -> list[tuple[str, str, bytes]]:
    image = source.top().value
    assert isinstance(image, Manifest)
    assert source.fetch(image.config) == CONFIG
    found = []
    for layer in image.layers:
        with source.open(layer) as chunks:
            found.append((layer.media_type, layer.digest, b"".join(chunks)))
    return found


def test_a_layout_in_a_tar_is_read(tmp_path: Path) -> None:
    path = tar(tmp_path / "image.tar", layout_files("one"))
    for name in (f"oci-archive:{path}", f"oci-archive:{path}:one"):
        with open_source(parse_location(name)) as source:
            assert layers(source) == [(OCI_LAYER, digest_of(LAYER), LAYER)]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_packed_archive_is_read(tmp_path: Path, pack: object) -> None:
    plain = tar(tmp_path / "image.tar", layout_files("one")).read_bytes()
    path = tmp_path / "image.packed"
    path.write_bytes(pack(plain))  # type: ignore[operator]
    with open_source(parse_location(f"oci-archive:{path}")) as source:
        assert len(layers(source)) == 1


def test_one_of_several_images_must_be_named(tmp_path: Path) -> None:
    path = tar(tmp_path / "image.tar", layout_files("one", "two"))
    for tag in ("", "three"):
        with open_tar(path, "x") as opened, pytest.raises(InputError) as caught:
            oci_archive(opened, tag)
        assert "one, two" in caught.value.detail


def test_a_docker_archive_is_the_manifest_that_it_amounts_to(tmp_path: Path) -> None:
    path = tar(tmp_path / "image.tar", docker_files(LAYER, "team/app:1"), LINK)
    for name in (f"docker-archive:{path}", f"docker-archive:{path}:team/app:1"):
        with open_source(parse_location(name)) as source:
            assert layers(source) == [(OCI_LAYER, digest_of(LAYER), LAYER)]


def test_a_packed_layer_of_a_docker_archive_has_its_own_digest(tmp_path: Path) -> None:
    packed = gzip.compress(LAYER)
    path = tar(tmp_path / "image.tar", docker_files(packed), LINK)
    with open_source(parse_location(f"docker-archive:{path}")) as source:
        assert layers(source) == [(OCI_LAYER_GZIP, digest_of(packed), packed)]


def test_a_layer_of_a_docker_archive_with_other_bytes_keeps_the_digest_that_it_should_have(tmp_path: Path) -> None:
    path = tar(tmp_path / "image.tar", docker_files(b"tampered"), LINK)
    with open_source(parse_location(f"docker-archive:{path}")) as source:
        [(_, digest, data)] = layers(source)
    assert digest == digest_of(LAYER)
    assert hashlib.sha256(data).hexdigest() not in digest


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    files = layout_files("one")
    del files[f"blobs/{digest_of(LAYER).replace(':', '/')}"]
    path = tar(tmp_path / "image.tar", files)
    with open_source(parse_location(f"oci-archive:{path}")) as source, pytest.raises(InputError, match="missing"):
        layers(source)


def test_an_archive_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = tar(tmp_path / "image.tar", docker_files(LAYER * 1000), LINK)
    with open_tar(path, "x") as opened:
        path.write_bytes(path.read_bytes()[:20000])
        with pytest.raises(InputError, match="ends inside"):
            list(opened.chunks("l.tar"))


def test_links_in_circles_end(tmp_path: Path) -> None:
    path = tar(tmp_path / "image.tar", {}, {"a": "b", "b": "a"})
    with open_tar(path, "x") as opened:
        assert not opened.has("a")


@given(st.binary(max_size=2000))
def test_any_bytes_are_an_archive_or_bad_input(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "image.tar"
    path.write_bytes(data)
    for read in (oci_archive, docker_archive):
        with pytest.raises(PolyarchError), open_tar(path, "x") as opened:
            read(opened, "")


def test_a_bare_document_has_no_blobs(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_bytes(next(data for data in layout_files("x").values() if b'"layers":' in data and data != CONFIG))
    with open_source(parse_location(str(path))) as source:
        image = source.top().value
        assert isinstance(image, Manifest)
        with pytest.raises(InputError, match="bare document"):
            source.fetch(image.config)


def test_a_folder_without_a_layout_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an OCI image layout"), open_source(parse_location(f"oci:{tmp_path}")):
        pass
