"""Twins put to the proof: what the corpus makes of them and of the originals under the emulator, compared.

Both sides run in a container of the foreign base; only the handler differs. What came of it is signed and kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyarch.arch import ARCHES, Platform
from polyarch.base import resolve as bases
from polyarch.base.model import BaseAnswer
from polyarch.build.accelerate import acceleration
from polyarch.build.engine import Acceleration, open_engine
from polyarch.emulation.twins import catalogue, corpus, packs, proofs, store
from polyarch.emulation.twins.pair import Twin
from polyarch.errors import InputError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.report import Event, Sink

_KINDS = ("out", "err", "status")


@dataclass(frozen=True, slots=True)
class Proof:
    """What came of one twin: `differing` names a command and what of it was not alike, "" when all of it was."""

    twin: Twin
    commands: int
    differing: str


async def prove(
    answer: BaseAnswer, platform: Platform, names: Collection[str], facts: Facts, layout: Layout, show: Sink
) -> tuple[Proof, ...]:
    """Prove the twins of a base's tools, those of these names or all for which the corpus has commands.

    Raises `InputError` for a name that has no twin on this base, or no commands; `BuildError` when a container fails.
    """
    native, foreign = answer.digest(facts.platform), answer.digest(platform)
    if native is None or foreign is None or not catalogue.accelerated(ARCHES[platform]):
        raise InputError(f"{answer.name}: there are no twins for {platform}", hint="see `polyarch accelerate status`")
    await bases.fetch(layout, answer, [facts.platform, platform])
    paired = packs.of_base(layout, native, foreign, ARCHES[facts.platform], ARCHES[platform]).twins
    twins = [t for t in paired if t.tool.name in corpus.CASES and (not names or t.tool.name in names)]
    if unknown := set(names) - {twin.tool.name for twin in twins}:
        raise InputError(f"no twin with commands to prove it: {', '.join(sorted(unknown))}")
    script = corpus.script(twin.tool for twin in twins)
    store.folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.folder(), prefix="proof-") as name:
        folders = Path(name, "twins"), Path(name, "originals")
        for folder, fast in zip(folders, (acceleration(twins, [platform], facts), None), strict=True):
            show(Event("step", str(platform), f"running the corpus with {folder.name}"))
            await _answers(foreign, platform, script, folder, facts, layout, fast)
        found = tuple(_compared(twin, *folders) for twin in twins)
    for proof in found:
        proofs.keep(proof.twin, proof.differing)
    return found


async def _answers(
    digest: str,
    platform: Platform,
    script: str,
    folder: Path,
    facts: Facts,
    layout: Layout,
    acceleration: Acceleration | None,
) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with open_engine(layout, facts, [platform], acceleration) as engine:
        await engine.import_bases([digest])
        await engine.run_once(digest, ["sh", "-c", script], folder)


def _compared(twin: Twin, one: Path, other: Path) -> Proof:
    commands: Sequence[str] = corpus.CASES[twin.tool.name]
    for number, command in enumerate(commands):
        for kind in _KINDS:
            name = f"{twin.tool.name}-{number}.{kind}"
            if (one / name).read_bytes() != (other / name).read_bytes():
                return Proof(twin, len(commands), f"{kind} of `{command}`")
    return Proof(twin, len(commands), "")
