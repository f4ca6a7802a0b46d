"""What is mended of documents, given the facts of their layers."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from verify_images import ARM, Layer, Shelf, Spec, add, elf, file, image, layer, program, root

from polyarch.arch import Platform
from polyarch.index.mend import Mended, Part, mend_index, mend_part
from polyarch.index.platform import proved_platform
from polyarch.oci import model
from polyarch.oci.inspect import REFERENCE_DIGEST
from polyarch.oci.model import ATTESTATION, Descriptor, Index, Manifest, parse_config
from polyarch.verify import LayerFacts, scan
from polyarch.verify.image import Image


def facts_of(shelf: Shelf) -> Mapping[str, LayerFacts]:
    return {digest: scan([data]) for digest, data in shelf.blobs.items()}


def part_of(shelf: Shelf, number: int = 0) -> Part:
    index = shelf.top().value
    assert isinstance(index, Index)
    entry = index.manifests[number]
    document = shelf.document(entry)
    assert isinstance(document.value, Manifest)
    return Part(entry, document, shelf.fetch(document.value.config))


def mended(spec: Spec) -> Mended:
    shelf = image(spec)
    return mend_part(part_of(shelf), facts_of(shelf))


def platform_of(spec: Spec) -> Platform | None:
    shelf = image(spec)
    part = part_of(shelf)
    assert part.document is not None
    assert part.config is not None
    assert isinstance(part.document.value, Manifest)
    config = parse_config(part.config, "test")
    return proved_platform(Image("image", None, part.entry, part.document.value, config), facts_of(shelf))


@pytest.mark.parametrize(
    ("inside", "stated", "config", "proved"),
    [
        ("linux/amd64", "linux/amd64", "amd64", "linux/amd64"),
        ("linux/amd64", "linux/arm64", "arm64", "linux/amd64"),
        ("linux/amd64", "linux/arm64", "amd64", "linux/amd64"),
        ("linux/s390x", "linux/s390x", "amd64", "linux/s390x"),
        ("linux/arm/v6", "linux/arm/v6", "arm", "linux/arm/v6"),
        ("linux/arm/v6", "linux/amd64", "amd64", "linux/arm/v7"),
        ("linux/riscv64", "linux/amd64", "", "linux/riscv64"),
    ],
)
def test_programs_prove_the_platform(inside: str, stated: str, config: str, proved: str) -> None:
    spec = Spec(stated, [layer(*root(inside))], config=lambda c: c.update(architecture=config))
    assert str(platform_of(spec)) == proved


def test_without_programs_the_config_is_right() -> None:
    spec = Spec("linux/arm64", [layer(file("data", b"x"))], config=lambda c: c.update(architecture="s390x"))
    assert str(platform_of(spec)) == "linux/s390x"


def test_programs_of_two_machines_prove_nothing() -> None:
    spec = Spec("linux/s390x", [layer(*root("linux/amd64"), program("usr/bin/tool", ARM))])
    assert platform_of(spec) is None
    assert mended(spec).changes == ()


def test_another_system_is_not_taken_for_linux() -> None:
    spec = Spec(
        layers=[layer(program("app", elf()))],
        config=lambda config: config.update(os="freebsd"),
        entry=lambda entry: entry["platform"].update(os="freebsd"),
    )
    assert platform_of(spec) is None


def test_a_missing_layer_leaves_the_platform_as_it_is() -> None:
    shelf = image(Spec("linux/arm64", [layer(*root("linux/amd64"))]))
    done = mend_part(part_of(shelf), {})
    assert done.changes == ()
    assert done.new == done.old


def test_a_document_that_is_right_keeps_its_bytes() -> None:
    done = mended(Spec("linux/arm/v6"))
    assert done.new == done.old


def test_a_label_is_mended_in_the_config_and_in_the_entry() -> None:
    done = mended(Spec("linux/arm64", [layer(*root("linux/arm/v7"))]))
    assert done.new.config is not None
    assert str(parse_config(done.new.config, "test").platform) == "linux/arm/v7"
    assert done.new.entry.platform is not None
    assert str(done.new.entry.platform.platform) == "linux/arm/v7"
    assert done.new.document is not None
    assert done.new.entry.digest == done.new.document.digest
    assert ("platform", "linux/arm64", "linux/arm/v7") in {(c.what, c.before, c.after) for c in done.changes}


def test_a_docker_manifest_gets_docker_types() -> None:
    def docker(manifest: dict[str, model.Any]) -> None:
        manifest["mediaType"] = model.DOCKER_MANIFEST
        manifest["config"]["mediaType"] = "application/json"

    wrong = layer(*root())
    wrong.type = "application/x-gzip"
    done = mended(Spec(layers=[wrong], manifest=docker))
    assert done.new.document is not None
    assert isinstance(done.new.document.value, Manifest)
    assert done.new.entry.media_type == model.DOCKER_MANIFEST
    assert done.new.document.value.config.media_type == model.DOCKER_CONFIG
    assert done.new.document.value.layers[0].media_type == model.DOCKER_LAYER


def test_a_layer_that_may_not_be_distributed_stays_one() -> None:
    good = layer(*root())
    kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
    done = mended(Spec(layers=[Layer(good.blob, good.plain, kind)]))
    assert [c.after for c in done.changes if c.what == "layers[0].mediaType"] == [f"{kind}+gzip"]


def test_an_attestation_follows_its_image_to_its_new_digest() -> None:
    shelf = Shelf()
    entry = Descriptor.model_validate(add(shelf, Spec("linux/arm64", [layer(*root("linux/amd64"))])))
    index = Index(schema_version=2, media_type=model.OCI_INDEX, manifests=(entry,))
    shelf.head = model.document(index)
    image_part = mend_part(part_of(shelf), facts_of(shelf))
    notes = {ATTESTATION: "attestation-manifest", REFERENCE_DIGEST: entry.digest}
    about = entry.model_copy(update={"digest": "sha256:" + "a" * 64, "annotations": notes})
    attestation = Mended(Part(about), Part(about))
    done, changes = mend_index(index, model.OCI_INDEX, [image_part, attestation])
    assert (done.manifests[1].annotations or {})[REFERENCE_DIGEST] == image_part.new.entry.digest != entry.digest
    assert any(change.what == REFERENCE_DIGEST for change in changes)


def test_an_index_of_no_known_type_gets_the_one_that_fits() -> None:
    entry = Descriptor.model_validate(add(Shelf(), Spec()))
    part = Mended(Part(entry), Part(entry))
    lost = Index(schema_version=1, media_type="text/plain", manifests=(entry,))
    done, changes = mend_index(lost, "application/json", [part])
    assert (done.schema_version, done.media_type) == (2, model.OCI_INDEX)
    assert {change.what for change in changes} == {"schemaVersion", "mediaType"}
    docker = entry.model_copy(update={"media_type": model.DOCKER_MANIFEST})
    assert mend_index(lost, "", [Mended(Part(docker), Part(docker))])[0].media_type == model.DOCKER_LIST
    assert mend_index(lost, model.DOCKER_LIST, [part])[0].media_type == model.DOCKER_LIST
