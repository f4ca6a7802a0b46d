"""Where `--output` writes an image: a layout or an archive, as skopeo and buildx name them."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from polyarch.errors import InputError
from polyarch.oci.layout import Layout
from polyarch.oci.model import Document, Index
from polyarch.oci.reference import parse_location


@dataclass(frozen=True, slots=True)
class Output:
    """One destination; `archive` is one uncompressed tar file, else a folder."""

    path: Path
    tag: str
    archive: bool

    def write(self, source: Layout, document: Document) -> None:
        """Write the image, whole or not at all."""
        if not self.archive:
            layout = Layout(self.path)
            copy(source, document, layout, self.tag)
            layout.tidy()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".polyarch-") as folder:
            layout = Layout(Path(folder) / "layout")
            copy(source, document, layout, self.tag)
            beside = Path(folder) / "archive"
            with tarfile.open(beside, "w") as tar:
                for name in ("oci-layout", "index.json", "blobs"):
                    tar.add(layout.path / name, name)
            beside.rename(self.path)


def parse_output(text: str) -> Output:
    """Read `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]` or buildx's `type=oci,dest=FILE[,tar=false]`.

    Raises `InputError`.
    """
    if text.startswith("type="):
        fields = dict(field.partition("=")[::2] for field in text.split(","))
        if fields["type"] == "oci" and fields.get("dest"):
            return Output(Path(fields["dest"]), "", archive=fields.get("tar", "true") != "false")
    else:
        location = parse_location(text)
        if location.transport in {"oci", "oci-archive"} and location.path is not None:
            return Output(location.path, location.tag, archive=location.transport == "oci-archive")
    raise InputError(
        f"--output {text!r} is not understood", hint="oci:DIR[:TAG], oci-archive:FILE[:TAG] or type=oci,dest=FILE"
    )


def copy(source: Layout, document: Document, target: Layout, name: str) -> None:
    """Copy an image between layouts and name it there."""
    if isinstance(document.value, Index):
        for entry in document.value.manifests:
            _copy_manifest(source, source.document(entry), target)
    else:
        _copy_manifest(source, document, target)
    target.tag(document, [name])


def _copy_manifest(source: Layout, document: Document, target: Layout) -> None:
    if isinstance(document.value, Index):
        raise InputError(f"{document.digest}: an index within an index cannot be written out")
    for blob in (document.value.config, *document.value.layers):
        if not target.has(blob.digest):
            _copy_blob(source, blob.digest, target)
    target.store(document)


def _copy_blob(source: Layout, digest: str, target: Layout) -> None:
    """A real copy, not a link: what the user does to the output must not reach the store."""
    with target.incoming() as (path, _file):
        shutil.copyfile(source.blob_path(digest), path)
        target.adopt(path, digest)
