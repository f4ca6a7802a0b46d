"""Changes of an index, pure: an index and entries in, another index out; nothing is read or written.

An entry that is an image is unique by its platform (Windows: and `os.version`). Attestations stand and fall with the
image that their `vnd.docker.reference.digest` names. Docker lists stay Docker lists, OCI indexes OCI indexes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from polyarch.arch import Platform, normalise, parse_platform
from polyarch.errors import InputError
from polyarch.oci.inspect import REFERENCE_DIGEST
from polyarch.oci.model import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Descriptor, Index

Key = tuple[Platform, str]


def create(entries: Sequence[Descriptor]) -> Index:
    """An index of these entries: a Docker list when all are Docker's. Raises `InputError` for a platform twice."""
    docker = all(entry.media_type == DOCKER_MANIFEST for entry in entries)
    index = Index(schema_version=2, media_type=DOCKER_LIST if docker else OCI_INDEX, manifests=())
    return add(index, entries)


def add(index: Index, entries: Sequence[Descriptor]) -> Index:
    """The index with more entries. Raises `InputError` when it has one of their platforms, or they one twice."""
    known = {key_of(entry) for entry in index.manifests if is_image(entry)}
    for entry in entries:
        if is_image(entry):
            if key_of(entry) in known:
                raise InputError(
                    f"{_shown(entry)} is there already", hint="`polyarch index replace` puts one in place of another"
                )
            known.add(key_of(entry))
    return _with(index, (*index.manifests, *entries))


def replace(index: Index, entries: Sequence[Descriptor]) -> Index:
    """The index with the entries in place of those of their platforms, or behind them where there are none.

    Raises `InputError` when the entries have a platform twice.
    """
    add(_with(index, ()), entries)
    new = {key_of(entry): entry for entry in entries if is_image(entry)}
    replaced = [entry for entry in index.manifests if is_image(entry) and key_of(entry) in new]
    # One digest may stand under several platforms; its attestations go with the last of them.
    lost = {entry.digest for entry in replaced} - {e.digest for e in index.manifests if e not in replaced}
    kept: list[Descriptor] = []
    for entry in index.manifests:
        chosen = new[key_of(entry)] if entry in replaced else entry
        if chosen not in kept and subject_of(chosen) not in lost:
            kept.append(chosen)
    return _with(index, (*kept, *(entry for entry in entries if entry not in kept)))


def remove(index: Index, wanted: Iterable[str]) -> Index:
    """The index without the images of these platforms, or the entries of these digests, and their attestations.

    Raises `InputError` when one of them is not there, or no image would be left.
    """
    left = list(index.manifests)
    for text in wanted:
        gone = [entry for entry in left if _matches(entry, text)]
        if not gone:
            offered = sorted({_shown(entry) for entry in index.manifests if is_image(entry)})
            raise InputError(f"the index has no {text}", detail=f"it has {', '.join(offered)}")
        left = [entry for entry in left if entry not in gone]
        lost = {entry.digest for entry in gone} - {entry.digest for entry in left}
        left = [entry for entry in left if subject_of(entry) not in lost]
    if not any(is_image(entry) for entry in left):
        raise InputError("no image would be left in the index")
    return _with(index, left)


def annotate(index: Index, changes: Mapping[str, str], platform: Platform | None = None) -> Index:
    """The index with annotations of its own, or of the entry for `platform`, set; an empty value removes one.

    Raises `InputError` for a platform that is not there, and for a Docker list, which has no annotations.
    """
    if index.media_type == DOCKER_LIST:
        raise InputError("a Docker manifest list has no annotations", hint="only OCI indexes have")
    if platform is None:
        return index.model_copy(update={"annotations": _changed(index.annotations, changes)})
    entries = [
        entry.model_copy(update={"annotations": _changed(entry.annotations, changes)})
        if is_image(entry) and key_of(entry)[0] == platform
        else entry
        for entry in index.manifests
    ]
    if not any(is_image(entry) and key_of(entry)[0] == platform for entry in entries):
        raise InputError(f"the index has no {platform}")
    return _with(index, entries)


def is_image(entry: Descriptor) -> bool:
    """Whether an entry is for running: neither an attestation nor another artifact, and with a platform."""
    return not entry.is_attestation and entry.artifact_type is None and entry.platform is not None


def key_of(entry: Descriptor) -> Key:
    """What is unique among the images of an index."""
    if entry.platform is None:
        raise AssertionError("only images with a platform have a key")
    return entry.platform.platform, entry.platform.os_version or ""


def subject_of(entry: Descriptor) -> str:
    """The digest of the image that an attestation belongs to, "" for what is none."""
    return (entry.annotations or {}).get(REFERENCE_DIGEST, "") if entry.is_attestation else ""


def _matches(entry: Descriptor, text: str) -> bool:
    if text.startswith("sha256:"):
        return entry.digest.startswith(text)
    return is_image(entry) and key_of(entry)[0] == _platform(text)


def _platform(text: str) -> Platform:
    """A platform that an index may have although the table does not know it: `windows/amd64`."""
    try:
        return parse_platform(text)
    except InputError:
        os, _, rest = text.partition("/")
        architecture, _, variant = rest.partition("/")
        if not architecture:
            raise
        return normalise(os, architecture, variant)


def _changed(annotations: Mapping[str, str] | None, changes: Mapping[str, str]) -> dict[str, str] | None:
    return {key: value for key, value in {**(annotations or {}), **changes}.items() if value or key not in changes} or (
        None
    )


def _with(index: Index, entries: Iterable[Descriptor]) -> Index:
    return index.model_copy(update={"manifests": tuple(entries)})


def _shown(entry: Descriptor) -> str:
    platform, version = key_of(entry)
    return f"{platform} {version}".strip()
