"""Changes of an index as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import Platform
from polyarch.errors import InputError
from polyarch.index import edit
from polyarch.oci.inspect import REFERENCE_DIGEST
from polyarch.oci.model import (
    ATTESTATION,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    PlatformField,
    document,
)

ARCHITECTURES = ("amd64", "arm64", "s390x", "riscv64")


def entry(architecture: str, seed: int = 0, kind: str = OCI_MANIFEST, **more: str) -> Descriptor:
    digest = f"sha256:{ARCHITECTURES.index(architecture):032x}{seed:032x}"
    field = PlatformField(os="linux", architecture=architecture, **more)
    return Descriptor(media_type=kind, digest=digest, size=1, platform=field)


def attestation(of: Descriptor, seed: int = 0) -> Descriptor:
    notes = {ATTESTATION: "attestation-manifest", REFERENCE_DIGEST: of.digest}
    unknown = PlatformField(os="unknown", architecture="unknown")
    digest = f"sha256:{seed + 10:x}{of.digest[8:]}"
    return Descriptor(media_type=OCI_MANIFEST, digest=digest, size=1, platform=unknown, annotations=notes)


def index(*entries: Descriptor, kind: str = OCI_INDEX) -> Index:
    return Index(schema_version=2, media_type=kind, manifests=entries)


AMD64, ARM64 = entry("amd64"), entry("arm64")


def test_a_list_of_docker_manifests_is_a_docker_list() -> None:
    docker = entry("amd64", kind=DOCKER_MANIFEST)
    assert edit.create([docker]).media_type == DOCKER_LIST
    assert edit.create([docker, ARM64]).media_type == OCI_INDEX


def test_a_platform_twice_is_refused() -> None:
    with pytest.raises(InputError, match="linux/amd64 is there already"):
        edit.create([AMD64, entry("amd64", 1)])
    with pytest.raises(InputError, match="linux/amd64 is there already"):
        edit.replace(index(ARM64), [AMD64, entry("amd64", 1)])


def test_images_of_one_platform_may_differ_by_their_os_version() -> None:
    newer = AMD64.model_copy(update={"platform": PlatformField.model_validate(
        {"os": "linux", "architecture": "amd64", "os.version": "10.0.1"})})  # fmt: skip
    assert edit.create([AMD64, newer.model_copy(update={"digest": "sha256:" + "1" * 64})]).manifests[0] == AMD64


def test_an_image_takes_the_place_of_the_one_of_its_platform() -> None:
    new = entry("amd64", 1)
    changed = edit.replace(index(AMD64, attestation(AMD64), ARM64, attestation(ARM64)), [new, attestation(new)])
    assert changed.manifests == (new, ARM64, attestation(ARM64), attestation(new))


def test_duplicates_that_were_there_end_with_replace() -> None:
    new = entry("amd64", 2)
    assert edit.replace(index(AMD64, entry("amd64", 1), ARM64), [new]).manifests == (new, ARM64)


def test_an_attestation_is_replaced_although_its_image_is_the_same() -> None:
    changed = edit.replace(index(AMD64, attestation(AMD64)), [AMD64, attestation(AMD64, 1)])
    assert changed.manifests == (AMD64, attestation(AMD64, 1))


def test_an_attestation_stays_while_its_manifest_stands_under_another_platform() -> None:
    twin = AMD64.model_copy(update={"platform": ARM64.platform})
    assert edit.remove(index(AMD64, twin, attestation(AMD64)), ["arm64"]).manifests == (AMD64, attestation(AMD64))


def test_entries_are_removed_by_digest_too() -> None:
    orphan = attestation(entry("s390x"))
    assert edit.remove(index(AMD64, orphan), [orphan.digest]).manifests == (AMD64,)


def test_platforms_that_the_table_does_not_know_can_be_removed() -> None:
    windows = AMD64.model_copy(update={"platform": PlatformField(os="windows", architecture="amd64")})
    assert edit.remove(index(AMD64, windows), ["windows/amd64"]).manifests == (AMD64,)
    with pytest.raises(InputError, match="has no linux/s390x") as caught:
        edit.remove(index(AMD64, ARM64), ["linux/s390x"])
    assert caught.value.detail == "it has linux/amd64, linux/arm64"
    with pytest.raises(InputError, match="unknown platform"):
        edit.remove(index(AMD64), ["nonsense"])


def test_annotations_are_set_and_removed() -> None:
    noted = edit.annotate(index(AMD64, ARM64), {"a": "1", "b": "2"})
    assert edit.annotate(noted, {"a": "", "c": "3"}).annotations == {"b": "2", "c": "3"}
    assert edit.annotate(edit.annotate(noted, {"a": "", "b": ""}), {}).annotations is None
    one = edit.annotate(index(AMD64, ARM64), {"a": "1"}, Platform("linux", "arm64"))
    assert [e.annotations for e in one.manifests] == [None, {"a": "1"}]
    with pytest.raises(InputError, match="has no linux/s390x"):
        edit.annotate(index(AMD64), {"a": "1"}, Platform("linux", "s390x"))


def test_members_that_polyarch_does_not_know_stay() -> None:
    known = Index.model_validate({"schemaVersion": 2, "manifests": [], "org.example": [1]})
    assert b'"org.example":[1]' in document(edit.add(known, [AMD64])).raw


@given(st.lists(st.tuples(st.sampled_from(ARCHITECTURES), st.integers(0, 3)), max_size=8))
def test_whatever_is_replaced_no_platform_is_there_twice_and_no_attestation_alone(
    steps: list[tuple[str, int]],
) -> None:
    found = index(AMD64, attestation(AMD64))
    for architecture, seed in steps:
        new = entry(architecture, seed)
        found = edit.replace(found, [new, attestation(new)])
        keys = [edit.key_of(each) for each in found.manifests if edit.is_image(each)]
        assert len(keys) == len(set(keys))
        assert {each.digest for each in found.manifests if edit.is_image(each)} == {
            edit.subject_of(each) for each in found.manifests if each.is_attestation
        }
