"""What is grafted, what is left to be built and what fails, when the native build or the proof does."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_build_graft import AMD64, ARM64, bases, built, elf, file, program

from polyarch.arch import Platform
from polyarch.build.model import BuiltImage
from polyarch.build.records import kept
from polyarch.build.transplant import Failures, Images, Transplanted, transplant
from polyarch.build.work import Graft, Work
from polyarch.dockerfile.graph import StageRef
from polyarch.errors import BuildError
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor
from polyarch.report import silent

NATIVE = Work(AMD64, (), "native")


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("POLYARCH_HOME", str(tmp_path))
    monkeypatch.setenv("POLYARCH_CACHE", str(tmp_path / "cache"))
    return Layout(tmp_path / "images")


def run(
    layout: Layout, image: Descriptor | None, *, forced: bool = False, targets: tuple[Platform, ...] = (AMD64, ARM64),
    keep_going: bool = False,
) -> Transplanted:  # fmt: skip
    """One graft for arm64 whose native build gives `image`, or fails when that is None."""
    arm = Work(ARM64, (), "arm", Graft(NATIVE, bases(layout), forced, not forced, "graft"))
    target = SimpleNamespace(label="stage-1", base=StageRef(0), triggers=(), instructions=())
    request = SimpleNamespace(
        no_cache=False, keep_going=keep_going, docker_format=False, platforms=targets, dockerfile=Path("Dockerfile")
    )
    prepared: Any = SimpleNamespace(request=request, graph=lambda _platform: SimpleNamespace(target=target))

    async def build(works: Sequence[Work]) -> tuple[Images, Failures]:
        assert list(works) == [NATIVE]
        return ({AMD64: BuiltImage(AMD64, image, False, 0.0)}, {}) if image else ({}, {AMD64: BuildError("it failed")})

    async def fetch(_digests: Collection[str]) -> None:
        return None

    missing = [work for work in (NATIVE, arm) if work.platform in targets]
    return asyncio.run(transplant(prepared, missing, layout, silent, build, fetch))


def test_a_graft_is_made_recorded_and_leaves_nothing_to_build(layout: Layout) -> None:
    found = run(layout, built(layout, file("a")))
    assert found.made[ARM64].grafted
    assert (found.failures, found.rest) == ({}, ())
    record = kept(layout, ARM64, "graft")
    assert record is not None
    assert record.grafted
    assert kept(layout, ARM64, "arm") is None, "an emulated build is another result"


def test_a_proof_that_fails_leaves_the_platform_to_be_built(layout: Layout) -> None:
    found = run(layout, built(layout, program("a", elf())))
    assert [work.platform for work in found.rest] == [ARM64]
    assert not found.failures


def test_a_forced_graft_fails_for_good(layout: Layout) -> None:
    found = run(layout, built(layout, program("a", elf())), forced=True)
    assert found.failures.keys() == {ARM64}
    assert found.rest == ()


def test_a_native_build_that_nobody_asked_for_may_fail(layout: Layout) -> None:
    found = run(layout, None, targets=(ARM64,))
    assert [work.platform for work in found.rest] == [ARM64]
    assert not found.failures


def test_a_native_target_that_fails_ends_the_build_unless_the_others_shall_go_on(layout: Layout) -> None:
    ended = run(layout, None)
    assert (ended.failures.keys(), ended.rest) == ({AMD64}, ())
    going = run(layout, None, keep_going=True)
    assert (going.failures.keys(), [work.platform for work in going.rest]) == ({AMD64}, [ARM64])
