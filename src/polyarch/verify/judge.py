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
from polyarch.verify.programs import Zones, foreign_folder, foreign_loaders, judge_kind, loaders, merged
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
        self._foreign: dict[str, str] = {}
        self._linked: frozenset[str] | None = None
        present = [layer for layer in image.manifest.layers if layer.digest in facts]
        self._digests = tuple(layer.digest for layer in present)
        self._root = Root([facts[layer.digest] for layer in present])
        # Of a root with a layer that cannot be read whole, nothing is known to be missing.
        self._complete = len(present) == len(image.manifest.layers) and all(
            facts[layer.digest].whole for layer in present
        )

    def all(self) -> None:
        """Judge layers, labels, entries and programs."""
        self._media_types()
        self._diff_ids()
        self._platform()
        self._faults()
        arch = self._image.arch
        run = self._image.config.config if self._image.config else None
        starts = closure(self._root, run) if self._complete and self._image.config else Closure()
        for problem in starts.problems:
            self._findings.add(problem.code, problem.message, path=_shown(problem.path))
        if self._complete:
            self._hardlinks()
        if arch is not None:
            zones = Zones(arch, search_path(run), starts.paths, starts.libraries)
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
        if (stated is None and image.listed) or image.platform is None or not image.platform.architecture:
            self._findings.add("platform-unstated", "no platform is stated", layer=image.descriptor.digest)
        elif image.arch is None:
            self._findings.add("platform-unknown", f"{image.platform} is not in the table")

    def _faults(self) -> None:
        for number, digest in enumerate(self._digests):
            for fault in self._facts[digest].faults:
                # A damaged blob was reported by its digest already.
                if self._facts[digest].digest == digest:
                    self._fault(fault, number, digest)

    def _fault(self, fault: Fault, number: int, digest: str) -> None:
        if not CODES[fault.code].allowable:
            self._findings.add(fault.code, fault.message, layer=digest, path=_shown(fault.path))
        elif not self._root.hidden(fault.path, number):
            # Every package that makes a root makes the usual nodes; engines mount their own /dev over them.
            usual = fault.code == "device-file" and fault.path.startswith("dev/")
            severity: Severity | None = "info" if usual else None
            self._add(fault.path, fault.code, fault.message, digest, _shown(fault.path), severity)

    def _programs(self, arch: Arch, zones: Zones) -> None:
        platform = self._image.platform or arch.platform
        for number, digest in enumerate(self._digests):
            facts = self._facts[digest]
            verdicts = [judge_kind(kind, platform, arch) for kind in facts.kinds]
            if not any(verdicts):
                continue
            for path, found in facts.elves.items():
                wrong = next(((wrong, member) for kind, member in found if (wrong := verdicts[kind])), None)
                if wrong is None or self._root.hidden(path, number) or merged(path) in foreign_loaders(arch):
                    continue
                folder = foreign_folder(path, arch)
                if folder:
                    self._foreign.setdefault(folder, digest)
                    continue
                verdict, member = wrong
                severity: Severity = "warning" if verdict.compatible or _hwcaps(path) else zones.severity(path)
                if severity == "warning" and not verdict.compatible and path in self._led_to(zones):
                    severity = "error"
                shown = f"{_shown(path)}({member})" if member else _shown(path)
                self._add(path, verdict.code, verdict.message, digest, shown, severity)

    def _led_to(self, zones: Zones) -> frozenset[str]:
        """The files that links in PATH or in the loader's folders lead to, as a `java` in /opt; looked up once."""
        if self._linked is None:
            links = (
                path
                for number, layer in enumerate(self._root.layers)
                for path in layer.symlinks
                if zones.severity(path) == "error" and not self._root.hidden(path, number)
            )
            self._linked = frozenset(found.path for path in links if (found := self._root.resolve(path)) is not None)
        return self._linked

    def _hardlinks(self) -> None:
        """Links that no engine can make: what they name is neither in their layer nor in one below."""
        for number, digest in enumerate(self._digests):
            below = Root(self._root.layers[: number + 1])
            for path, target in self._facts[digest].hardlinks.items():
                if below.find(target) is None:
                    message = f"a hard link to {_shown(target)}, which is not there"
                    self._findings.add("hardlink-missing", message, layer=digest, path=_shown(path))

    def _loaders(self, arch: Arch) -> None:
        own = any(self._root.resolve(path) for path in loaders(arch))
        for path, other in foreign_loaders(arch).items():
            found = self._root.resolve(path) or self._root.resolve(path.removeprefix("usr/"))
            if found is not None:
                message = f"the loader of {other.platform} in an image for {self._image.platform}"
                severity: Severity = "warning" if own else "error"
                self._add(path, "foreign-loader", message, self._digests[found.layer], _shown(path), severity)

    def _folders(self, arch: Arch) -> None:
        """Foreign multiarch folders: those that programs were found in, and those that are there at all."""
        for triplet in sorted({a.triplet for a in ARCHES.values() if a.architecture != arch.architecture}):
            found = self._root.resolve(f"/usr/lib/{triplet}") or self._root.resolve(f"/lib/{triplet}")
            if found is not None:
                self._foreign.setdefault(merged(found.path), self._digests[found.layer])
        for folder, digest in self._foreign.items():
            message = f"libraries of another platform in an image for {self._image.platform}"
            self._add(folder, "foreign-multiarch", message, digest, _shown(folder))

    def _add(
        self, path: str, code: str, message: str, layer: str, shown: str, severity: Severity | None = None
    ) -> None:
        """Note a finding about a path, unless the path is allowed."""
        if self._allowed(path):
            self._silenced += 1
        else:
            self._findings.add(code, message, layer=layer, path=shown, severity=severity)


def _same_but_variant(image: Image) -> bool:
    """An index may be more exact than the config, which often leaves the variant out."""
    stated, config = image.descriptor.platform, image.config
    if stated is None or config is None or config.variant:
        return False
    return (stated.os, stated.architecture) == (config.os, config.architecture)


def _hwcaps(path: str) -> bool:
    """Loaders take from `glibc-hwcaps/LEVEL/` only what the processor can run."""
    return "/glibc-hwcaps/" in path


def _shown(path: str) -> str:
    return f"/{path.lstrip('/')}" if path else ""
