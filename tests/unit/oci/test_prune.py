"""What no name needs goes; what a name needs stays."""

from pathlib import Path

import pytest

from polyarch.oci import layers, notes
from polyarch.oci.layout import Layout
from polyarch.oci.model import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Document, Manifest, document
from polyarch.oci.prune import drop_damaged, prune


def image(layout: Layout, content: bytes) -> Document:
    config = Descriptor(media_type=OCI_CONFIG, digest=layout.add(b"{}"), size=2)
    layer = Descriptor(media_type=OCI_LAYER_GZIP, digest=layout.add(content), size=len(content))
    made = document(Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(layer,)))
    layout.store(made)
    return made


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


def test_what_a_name_needs_stays_and_the_rest_goes(layout: Layout, tmp_path: Path) -> None:
    kept, gone = image(layout, b"kept"), image(layout, b"gone")
    layout.tag(kept, ["a"])
    done = prune(layout, [tmp_path / "records"])
    assert (done.blobs, done.size) == (2, len(gone.raw) + 4)  # the manifest and its layer; the config is shared
    assert layout.whole(kept.digest)
    assert not layout.has(gone.digest)


def test_records_and_notes_of_what_is_gone_go_with_it(layout: Layout, tmp_path: Path) -> None:
    kept, gone = image(layout, b"kept"), image(layout, b"gone")
    layout.tag(kept, ["a"])
    for name, made in (("kept", kept), ("gone", gone)):
        notes.write(tmp_path / "records" / f"{name}.json", made.descriptor)
        assert isinstance(made.value, Manifest)
        layers.remember(layout, f"sha256:{name}", made.value.layers[0])
    prune(layout, [tmp_path / "records"])
    assert [path.name for path in (tmp_path / "records").iterdir()] == ["kept.json"]
    assert [path.name for path in (layout.path / "diff-ids").iterdir()] == ["kept"]


def test_a_store_that_is_not_there_is_empty(layout: Layout, tmp_path: Path) -> None:
    assert prune(layout, [tmp_path]).blobs == 0


def test_blobs_that_went_bad_in_place_are_dropped(layout: Layout) -> None:
    made = image(layout, b"fine")
    layout.tag(made, ["a"])
    assert isinstance(made.value, Manifest)
    bad = made.value.layers[0].digest
    layout.blob_path(bad).write_bytes(b"fiNe")
    assert drop_damaged(layout, layout.names()["a"]) == (bad,)
    assert not layout.has(bad)
    assert layout.has(made.digest)
