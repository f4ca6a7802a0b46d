"""Which platform a manifest is for, by what its programs prove."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from polyarch.arch import Platform, by_elf
from polyarch.oci.model import PlatformField
from polyarch.verify.facts import LayerFacts
from polyarch.verify.image import Image
from polyarch.verify.judge import judge_image

_PROOFS: Final = frozenset(
    ("elf-machine", "elf-class", "elf-byteorder", "elf-float-abi", "elf-abi", "elf-isa", "foreign-loader")
)


def proved_platform(image: Image, facts: Mapping[str, LayerFacts]) -> Platform | None:
    """The first of these platforms for which the programs hold no error: the config's, the stated, the programs' own.

    None when it is none of them. Nothing is proved, either, of an image with layers that are not in `facts`, or for
    another system than Linux, whose programs may have the same headers.
    """
    if any(layer.digest not in facts for layer in image.manifest.layers) or _other_system(image):
        return None
    return next((platform for platform in _candidates(image, facts) if _fits(image, facts, platform)), None)


def field_for(platform: Platform, before: PlatformField | None) -> PlatformField:
    """The platform as a descriptor states it; what else the descriptor states of it (`os.version`) stays."""
    plain = PlatformField.of(platform)
    if before is None:
        return plain
    if before.platform == platform:
        return before
    return before.model_copy(
        update={"os": plain.os, "architecture": plain.architecture, "variant": plain.variant, "os_features": None}
    )


def _other_system(image: Image) -> bool:
    stated = (
        image.config.os if image.config else "",
        image.descriptor.platform.os if image.descriptor.platform else "",
    )
    return any(os not in ("", "linux") for os in stated)


def _candidates(image: Image, facts: Mapping[str, LayerFacts]) -> Iterator[Platform]:
    stated = image.descriptor.platform.platform if image.descriptor.platform else None
    config = image.config.platform if image.config and image.config.architecture else None
    # An index may be more exact than a config that leaves the variant out.
    if stated and config and (config.os, config.architecture) == (stated.os, stated.architecture):
        yield stated
    yield from (platform for platform in (config, stated) if platform is not None)
    for layer in image.manifest.layers:
        for kind in facts[layer.digest].kinds:
            yield from (row.platform for row in by_elf(kind.machine, kind.elf_class, kind.byteorder))


def _fits(image: Image, facts: Mapping[str, LayerFacts], platform: Platform) -> bool:
    claimed = replace(
        image, platform=platform, descriptor=image.descriptor.model_copy(update={"platform": field_for(platform, None)})
    )
    if claimed.arch is None:
        return False
    found = judge_image(claimed, facts)
    return not any(violation.severity == "error" and violation.code in _PROOFS for violation in found)
