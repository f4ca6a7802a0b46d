"""Facts and documents in, violations out: pure, and the same whatever order the layers were read in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from polyarch.arch import ARCHES, Arch
from polyarch.oci.model import Descriptor
from polyarch.verify.codes import CODES, Severity
from polyarch.verify.documents import DIGEST, LAYER_TYPES
from polyarch.verify.entrypoint import Closure, closure, search_path
from polyarch.verify.facts import Fault, LayerFacts
from polyarch.verify.image import Allowed, Image
from polyarch.verify.programs import Zones, foreign_folder, is_loader, judge_kind
from polyarch.verify.report import Findings, Violation
from polyarch.verify.root import Root

_CHUNKED = "io.github.containers.zstd-chunked.manifest-position"


def judge_image(image: Image, facts: Mapping[str, LayerFacts], allow: Sequence[str] = ()) -> tuple[Violation, ...]:
    """Everything that is wrong with one manifest, whose blobs' facts are given by digest (absent where unreadable)."""
    findings = Findings(image.label)
    for descriptor in (*(() if image.kind == "image" else (image.manifest.config,)), *image.manifest.layers):
        if descriptor.digest in facts:
            _bytes(descriptor, facts[descriptor.digest], findings)
    if image.kind == "image":
        _Judge(image, facts, allow, findings).all()
    return findings.all()


def _bytes(descriptor: Descriptor, facts: LayerFacts, findings: Findings) -> None:
    """Digest and size. A blob with another digest is another blob: its size is then no second finding."""
    if facts.digest != descriptor.digest:
        findings.add(
            "digest-mismatch",
            f"{facts.size} bytes with {facts.digest}; {descriptor.size} were promised",
            layer=descriptor.digest,
        )
    elif facts.size != descriptor.size:
        findings.add(
            "size-mismatch", f"{facts.size} bytes, the descriptor says {descriptor.size}", layer=descriptor.digest
        )


class _Judge:
    """The judgement of one image; each method adds what it finds."""

    def __init__(self, image: Image, facts: Mapping[str, LayerFacts], allow: Sequence[str], findings: Findings) -> None:
        self._image = image
        self._facts = facts
        self._findings = findings
        self._allowed = Allowed((*allow, *image.allow))
        self._silenced = 0
        present = [layer for layer in image.manifest.layers if layer.digest in facts]
        self._digests = tuple(layer.digest for layer in present)
        self._root = Root([facts[layer.digest] for layer in present])
        # What stands only on top of a layer that cannot be read is not known to be missing.
        self._complete = len(present) == len(image.manifest.layers) and not any(
            fault.code in ("layer-corrupt", "layer-bomb", "layer-limit", "tar-malformed")
            for layer in present for fault in facts[layer.digest].faults
        )  # fmt: skip

    def all(self) -> None:
        """Judge layers, labels, entries and programs."""
        self._media_types()
        self._diff_ids()
        self._platform()
        self._faults()
        arch = self._image.arch
        run = self._image.config.config if self._image.config else None
        starts = closure(self._root, run) if self._complete else Closure()
        for problem in starts.problems:
            self._findings.add(problem.code, problem.message, path=_shown(problem.path))
        if arch is not None:
            zones = Zones(arch, search_path(run), starts.paths)
            self._programs(arch, zones)
            self._loaders(arch)
            self._folders(arch)
        if self._silenced:
            self._findings.add("allowed", f"{self._silenced:,} findings silenced by allowed paths")

    def _media_types(self) -> None:
        for layer in self._image.manifest.layers:
            expected, facts = LAYER_TYPES.get(layer.media_type), self._facts.get(layer.digest)
            if expected is None:
                self._findings.add(
                    "media-type-unknown", f"{layer.media_type!r} is no type of a layer", layer=layer.digest
                )
            if facts is None or facts.digest != layer.digest:
                continue
            if facts.compression not in (expected, "empty") and (expected or facts.compression == "unknown"):
                actual = "no tar, gzip or zstd" if facts.compression == "unknown" else facts.compression
                self._findings.add(
                    "layer-media-type",
                    f"declared as {layer.media_type}, but the bytes are {actual}",
                    layer=layer.digest,
                )
            if _CHUNKED in (layer.annotations or {}) and facts.compression == "zstd" and not facts.chunked:
                self._findings.add("layer-chunked", "annotated as zstd:chunked without its footer", layer=layer.digest)

    def _diff_ids(self) -> None:
        config = self._image.config
        if config is None:
            return
        layers, stated = self._image.manifest.layers, config.rootfs.diff_ids
        if len(layers) != len(stated):
            self._findings.add("diff-id-count", f"{len(layers)} layers, {len(stated)} diff ids")
            return
        for layer, diff_id in zip(layers, stated, strict=True):
            facts = self._facts.get(layer.digest)
            if not DIGEST.fullmatch(diff_id) or diff_id.startswith("sha512"):
                self._findings.add("digest-invalid", f"{diff_id[:80]!r} is no diff id", layer=layer.digest)
            elif facts and facts.digest == layer.digest and facts.diff_id not in ("", diff_id):
                self._findings.add(
                    "diff-id-mismatch", f"the content is {facts.diff_id}, not {diff_id}", layer=layer.digest
                )

    def _platform(self) -> None:
        image, config = self._image, self._image.config
        stated = image.descriptor.platform.platform if image.descriptor.platform else None
        if config is not None and stated is not None and config.platform != stated and not _same_but_variant(image):
            self._findings.add("platform-mismatch", f"the index says {stated}, the config {config.platform}")
        if image.platform is None or not image.platform.architecture:
            self._findings.add(
                "platform-unstated", "neither index nor config states a platform", layer=image.descriptor.digest
            )
        elif image.arch is None:
            self._findings.add("platform-unknown", f"{image.platform} is not in the table")

    def _faults(self) -> None:
        for number, digest in enumerate(self._digests):
            for fault in self._facts[digest].faults:
                # A damaged blob was reported by its digest already.
                if self._facts[digest].digest == digest:
                    self._fault(fault, number, digest)

    def _fault(self, fault: Fault, number: int, digest: str) -> None:
        if CODES[fault.code].allowable:
            if self._root.hidden(fault.path, number):
                return
            if self._allowed(fault.path):
                self._silenced += 1
                return
        # Every package that makes a root makes the usual nodes; engines mount their own /dev over them.
        usual = fault.code == "device-file" and fault.path.startswith("dev/")
        self._findings.add(
            fault.code, fault.message, layer=digest, path=_shown(fault.path), severity="info" if usual else None
        )

    def _programs(self, arch: Arch, zones: Zones) -> None:
        platform = self._image.platform or arch.platform
        for number, digest in enumerate(self._digests):
            facts = self._facts[digest]
            verdicts = [judge_kind(kind, platform, arch) for kind in facts.kinds]
            if not any(verdicts):
                continue
            for path, found in facts.elves.items():
                wrong = next(((wrong, member) for kind, member in found if (wrong := verdicts[kind])), None)
                if wrong is None or _spoken_for(path, arch) or self._root.hidden(path, number):
                    continue
                verdict, member = wrong
                severity: Severity = "warning" if verdict.compatible or _hwcaps(path) else zones.severity(path)
                self._elf(verdict.code, verdict.message, digest, path, member, severity)

    def _elf(self, code: str, message: str, layer: str, path: str, member: str, severity: Severity) -> None:
        if self._allowed(path):
            self._silenced += 1
            return
        shown = f"{_shown(path)}({member})" if member else _shown(path)
        self._findings.add(code, message, layer=layer, path=shown, severity=severity)

    def _loaders(self, arch: Arch) -> None:
        own = any(self._root.resolve(path) for path in (arch.loader, _musl(arch)))
        for other in {a.loader: a for a in ARCHES.values() if a.architecture != arch.architecture}.values():
            for loader in (other.loader, _musl(other)):
                found = self._root.resolve(loader)
                if found is None or loader in (arch.loader, _musl(arch)):
                    continue
                if self._allowed(loader.lstrip("/")) or self._allowed(found.path):
                    self._silenced += 1
                    continue
                message = f"the loader of {other.platform} in an image for {self._image.platform}"
                self._findings.add(
                    "foreign-loader", message, layer=self._digests[found.layer], path=loader,
                    severity="warning" if own else "error",
                )  # fmt: skip

    def _folders(self, arch: Arch) -> None:
        for triplet in sorted({a.triplet for a in ARCHES.values() if a.architecture != arch.architecture}):
            found = self._root.resolve(f"/usr/lib/{triplet}") or self._root.resolve(f"/lib/{triplet}")
            if found is None:
                continue
            if self._allowed(found.path) or self._allowed(f"{found.path}/"):
                self._silenced += 1
                continue
            self._findings.add(
                "foreign-multiarch", f"the libraries of {triplet} in an image for {self._image.platform}",
                layer=self._digests[found.layer], path=_shown(found.path),
            )  # fmt: skip


def _same_but_variant(image: Image) -> bool:
    """An index may be more exact than the config, which often leaves the variant out."""
    stated, config = image.descriptor.platform, image.config
    if stated is None or config is None or config.variant:
        return False
    return (stated.os, stated.architecture) == (config.os, config.architecture)


def _spoken_for(path: str, arch: Arch) -> bool:
    """Whether `foreign-loader` or `foreign-multiarch` speaks of this file."""
    return bool(foreign_folder(path, arch)) or is_loader(path)


def _hwcaps(path: str) -> bool:
    """Loaders take from `glibc-hwcaps/LEVEL/` only what the processor can run."""
    return "/glibc-hwcaps/" in path


def _musl(arch: Arch) -> str:
    cpu = arch.triplet.partition("-")[0]
    return f"/lib/ld-musl-{'armhf' if arch.triplet.endswith('hf') else cpu}.so.1"


def _shown(path: str) -> str:
    return f"/{path.lstrip('/')}" if path else ""
