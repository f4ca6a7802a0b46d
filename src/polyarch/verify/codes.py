"""Every code that a proof can give: its usual severity, what it means, and what mends it.

Codes are stable: scripts match on them, `docs/` lists them, and SARIF carries this table as its rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of violation. `allowable`: an allowed path may silence it."""

    name: str
    severity: Severity
    title: str
    hint: str
    allowable: bool = False


_TABLE: Final = (
    Code("document-unreadable", "error", "a manifest or an index is missing or not valid",
         "push the image again; the index must only name documents that exist"),
    Code("config-invalid", "error", "an image config is missing or not valid", "build the image again"),
    Code("blob-missing", "error", "a blob cannot be read", "push the image again, blobs before manifests"),
    Code("schema-version", "error", "schemaVersion is not 2", "write the document again with schemaVersion 2"),
    Code("blob-elsewhere", "warning", "a layer that registries do not keep was not read",
         "its `urls` say where it is; such layers are of an old age: build the image without them"),
    Code("media-type-unknown", "error", "a descriptor states a media type that does not exist",
         "`polyarch index repair` writes the media type that fits the bytes"),
    Code("media-type-mismatch", "error", "descriptor and document state different media types",
         "`polyarch index repair` writes the media type that fits the bytes"),
    Code("layer-media-type", "error", "a layer's bytes are not what its media type says",
         "`polyarch index repair` writes the media type that fits the bytes"),
    Code("layer-chunked", "error", "a layer is annotated as zstd:chunked and has no such footer",
         "compress the layer again, or drop the annotations"),
    Code("digest-invalid", "error", "a digest is malformed or of an unknown algorithm", "write sha256: and 64 digits"),
    Code("digest-mismatch", "error", "bytes do not have the digest that names them",
         "the blob is damaged or was exchanged: fetch or build it again"),
    Code("size-mismatch", "error", "bytes are not as many as the descriptor says",
         "the blob is damaged or the descriptor wrong: build again or `polyarch index repair`"),
    Code("diff-id-mismatch", "error", "a layer's content is not the one that the config names",
         "the layer does not belong to this config: build the image again"),
    Code("diff-id-count", "error", "the config names another number of layers than the manifest",
         "manifest and config do not belong together: build the image again"),
    Code("layer-corrupt", "error", "a layer cannot be decompressed to its end", "build or fetch the layer again"),
    Code("layer-bomb", "error", "a layer grows beyond all reason when it is decompressed",
         "do not unpack this image; find out who made it"),
    Code("layer-limit", "error", "a layer holds more than can be proved in bounded memory", "split the layer"),
    Code("tar-malformed", "error", "a layer is not a whole tar archive", "build the layer again"),
    Code("index-empty", "error", "an index names no image", "build for at least one platform"),
    Code("index-nesting", "error", "indexes are nested too deep, or name too many documents", "write one flat index"),
    Code("platform-missing", "error", "a wanted platform is not in the image", "build the image for it, too"),
    Code("platform-unstated", "error", "an entry of an index states no platform",
         "`polyarch index repair` writes the platform that the programs inside prove"),
    Code("platform-unknown", "warning", "a platform that the table does not know; its programs are not judged",
         "`polyarch verify` can judge the programs of known platforms only"),
    Code("platform-mismatch", "error", "descriptor and config state different platforms",
         "`polyarch index repair` writes the platform that the programs inside prove"),
    Code("platform-duplicate", "error", "two entries of an index are for the same platform",
         "`polyarch index replace` keeps one entry for each platform"),
    Code("platform-conflict", "error", "one manifest stands under two platforms",
         "build the image for each platform; one manifest can be right for one only"),
    Code("attestation-orphan", "warning", "an attestation belongs to no image of this index",
         "remove it with `polyarch index remove`"),
    Code("elf-machine", "error", "a program of another machine", "build this file for the platform, or allow its path",
         allowable=True),
    Code("elf-class", "error", "a program of another word size", "build this file for the platform, or allow its path",
         allowable=True),
    Code("elf-byteorder", "error", "a program of the other byte order",
         "build this file for the platform, or allow its path", allowable=True),
    Code("elf-float-abi", "error", "a program of another floating-point ABI",
         "build this file for the platform's ABI (for example -mfloat-abi=hard), or allow its path", allowable=True),
    Code("elf-abi", "error", "a program of another ABI version", "build this file for the platform's ABI (ELFv2)",
         allowable=True),
    Code("elf-isa", "error", "a program that needs a newer processor than the platform promises",
         "build with a lower -march, or label the image with the variant it needs", allowable=True),
    Code("elf-malformed", "warning", "a file with ELF's magic that is not ELF", "allow its path if it is test data",
         allowable=True),
    Code("entrypoint-none", "info", "the image names nothing to run", "fine for a base; else set ENTRYPOINT or CMD"),
    Code("entrypoint-missing", "error", "what the image runs is not in the image", "copy the program into the image"),
    Code("entrypoint-not-executable", "error", "what the image runs may not be executed",
         "chmod 0755 in the Dockerfile"),
    Code("entrypoint-format", "error", "what the image runs is neither ELF nor a script with #!",
         "start the script with #!/bin/sh, or name its interpreter in ENTRYPOINT"),
    Code("interpreter-missing", "error", "the interpreter of what the image runs is not in the image",
         "install it (for a dynamic program: the C library of this platform), or link statically"),
    Code("foreign-loader", "error", "the dynamic loader of another platform",
         "the layer comes from an image of another platform: build it for this one", allowable=True),
    Code("foreign-multiarch", "warning", "a library directory of another platform",
         "remove the foreign packages, or allow the path", allowable=True),
    Code("graft-broken", "error", "a grafted layer holds something of one architecture, against the image's promise",
         "build the image for the platform: `polyarch build --strategy PLATFORM=emulate`"),
    Code("graft-invalid", "error", "the promise of a grafted image cannot be read or does not fit the image",
         "build the image again"),
    Code("unsafe-path", "error", "an entry that leaves the root of the image", "build the layer without `..`"),
    Code("unsafe-hardlink", "error", "a hard link that leaves the root of the image", "build the layer again"),
    Code("hardlink-missing", "error", "a hard link to what is not there: no engine can unpack it",
         "build the layer again"),
    Code("device-file", "warning", "a device file", "containers get their /dev from the engine: remove it",
         allowable=True),
    Code("setuid", "info", "programs that run with another user's rights", "drop the bit where it is not needed",
         allowable=True),
    Code("allowed", "info", "findings that an allowed path silenced", "see --allow and the image's annotation"),
)  # fmt: skip

CODES: Final[dict[str, Code]] = {code.name: code for code in _TABLE}
