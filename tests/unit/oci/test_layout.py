"""The layout on disk: whole or not at all."""

from pathlib import Path

import pytest

from polyarch.errors import InputError
from polyarch.oci import layers
from polyarch.oci.layout import Layout
from polyarch.oci.model import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Document, Manifest, document
from polyarch.oci.output import copy, parse_output


def image(layout: Layout, content: bytes = b"{}") -> Document:
    blobs = []
    for media_type in (OCI_CONFIG, OCI_LAYER_GZIP):
        blobs.append(Descriptor(media_type=media_type, digest=layout.add(content), size=len(content)))
    return document(Manifest(schema_version=2, media_type=OCI_MANIFEST, config=blobs[0], layers=(blobs[1],)))


def test_a_name_finds_what_it_was_given(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    made = image(layout)
    layout.tag(made, ["a", "b"])
    assert layout.find("a") == layout.find("b") == made
    assert layout.find("c") is None


def test_a_name_moves_only_to_an_image_that_is_whole(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    old = image(layout)
    layout.tag(old, ["a"])
    new = image(layout, b"other")
    assert isinstance(new.value, Manifest)
    layout.blob_path(new.value.layers[0].digest).unlink()
    with pytest.raises(InputError, match="missing"):
        layout.tag(new, ["a"])
    assert layout.find("a") == old


def test_bytes_with_another_digest_are_not_kept(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    promised = "sha256:" + "0" * 64
    with pytest.raises(InputError, match="promised"):
        layout.write(promised, [b"something else"])
    assert not layout.has(promised)
    assert list((tmp_path / "incoming").iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    layout = Layout(tmp_path)

    def broken() -> object:
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layout.write(None, broken())  # type: ignore[arg-type]
    assert list((tmp_path / "incoming").iterdir()) == []


def test_names_removed_and_added_at_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    made = image(layout)
    layout.tag(made, ["a"])
    layout.rename({"a": None, "b": made.descriptor})
    assert set(layout.names()) == {"b"}


def test_the_same_layer_is_compressed_to_the_same_bytes_and_known_afterwards(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    tar = tmp_path / "tar"
    tar.write_bytes(b"content" * 10_000)
    with tar.open("rb") as file:
        diff_id, first = layers.compress(layout, file)
    with tar.open("rb") as file:
        assert layers.compress(layout, file) == (diff_id, first)
    assert layers.known(layout, diff_id) == first
    layout.blob_path(first.digest).unlink()
    assert layers.known(layout, diff_id) is None


def test_a_copy_shares_nothing_with_its_source(tmp_path: Path) -> None:
    source, target = Layout(tmp_path / "a"), Layout(tmp_path / "b")
    made = image(source)
    copy(source, made, target, "v")
    assert target.find("v") == made
    digest = made.value.config.digest if isinstance(made.value, Manifest) else ""
    assert target.blob_path(digest).stat().st_ino != source.blob_path(digest).stat().st_ino


@pytest.mark.parametrize("text", ["tar", "type=docker", "type=oci", "docker://x", "oci:"])
def test_an_output_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_output(text)


@pytest.mark.parametrize("text", ["sha256:..", "md5:aa", "sha256:a/b", "sha256:", "sha256:" + "A" * 64, "../../x"])
def test_a_digest_never_leads_out_of_the_layout(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="no digest"):
        Layout(tmp_path).blob_path(text)


def test_half_made_things_are_removed_but_not_those_of_somebody_at_work(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with layout.incoming() as (path, _file):
        layout.clear_staging()
        assert path.exists()
    for name in ("left", "download.part"):
        (tmp_path / "incoming" / name).touch()
    layout.clear_staging()
    assert [entry.name for entry in (tmp_path / "incoming").iterdir()] == ["download.part"]
