"""What an image says of itself, without a layer being read."""

from __future__ import annotations

from pathlib import Path

from index_images import attestation, attested, shelf_of, shelve
from verify_images import Shelf, Spec, add, file, image, layer, root

from polyarch.oci import model
from polyarch.oci.inspect import BASE_DIGEST, BASE_NAME, Base, inspect, tagged
from polyarch.oci.layout import Layout, LayoutSource


def test_layers_that_platforms_share_are_told() -> None:
    shared = layer(file("data", b"x"))
    own = [layer(*root(platform)) for platform in ("linux/amd64", "linux/arm/v6")]
    shelf = image(Spec("linux/amd64", [shared, own[0]]), Spec("linux/arm/v6", [shared, own[1]]))
    found = inspect(shelf)
    assert [entry.platform for entry in found.entries] == ["linux/amd64", "linux/arm/v6"]
    both, alone = found.entries[1].layers
    assert both.platforms == ("linux/amd64", "linux/arm/v6")
    assert alone.platforms == ("linux/arm/v6",)
    sizes = [len(each.blob) for each in (shared, *own)]
    assert found.size == sum(sizes)
    assert found.entries[0].size == sizes[0] + sizes[1]
    assert set(shelf.opened) == set()


def test_attestations_are_told_apart_from_images() -> None:
    found = inspect(attested("linux/amd64", "linux/arm64"))
    assert [entry.kind for entry in found.entries] == ["image", "image", "attestation", "attestation"]
    one = found.entries[2]
    assert (one.of, one.predicates) == (found.entries[0].digest, ("https://slsa.dev/provenance/v0.2",))
    assert found.entries[0].layers[0].platforms == ("linux/amd64",)


def test_the_base_is_what_the_annotations_say() -> None:
    stated = {BASE_NAME: "docker.io/library/debian:trixie", BASE_DIGEST: "sha256:12"}
    found = inspect(image(Spec(manifest=lambda manifest: manifest.update(annotations=stated))))
    assert found.entries[0].base == Base("docker.io/library/debian:trixie", "sha256:12", "annotation")
    assert found.entries[0].annotations == stated


def test_the_base_is_recognised_by_the_layers_of_a_named_image(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    lowest, middle, top = (layer(file(name, b"x")) for name in "abc")
    shelve(image(Spec(layers=[lowest])), layout, "small")
    digest = shelve(image(Spec(layers=[lowest, middle])), layout, "large").value
    shelve(image(Spec("linux/arm64", [lowest, middle])), layout, "foreign")
    shelve(image(Spec(layers=[lowest, middle, top])), layout, "itself")
    bases = tagged(layout)
    assert isinstance(digest, model.Index)
    found = inspect(image(Spec(layers=[lowest, middle, top])), bases)
    assert found.entries[0].base == Base("large", digest.manifests[0].digest, "layers")
    assert inspect(image(Spec(layers=[top, lowest])), bases).entries[0].base is None


def test_a_plain_manifest_has_the_platform_of_its_config(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    index = shelve(image(Spec("linux/arm/v7")), layout, "x").value
    assert isinstance(index, model.Index)
    found = inspect(LayoutSource(layout, layout.document(index.manifests[0]), "plain"))
    assert [entry.platform for entry in found.entries] == ["linux/arm/v7"]


def test_what_cannot_be_read_is_told_and_the_rest_shown() -> None:
    shelf = Shelf()
    entries = [add(shelf, Spec(platform)) for platform in ("linux/amd64", "linux/arm64")]
    del shelf.blobs[entries[0]["digest"]]
    gone, whole, beside = inspect(shelf_of([*entries, attestation(shelf, entries[1]["digest"])], shelf)).entries
    assert (gone.kind, gone.platform) == ("unreadable", "linux/amd64")
    assert "missing" in gone.problem
    assert (whole.kind, beside.kind) == ("image", "attestation")
