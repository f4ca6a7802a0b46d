"""The planner is a pure function: the same inputs, the same plan; and never a way that cannot run."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import ARCHES, Platform, parse_platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.emulation.emulators import Emulator
from polyarch.facts.model import Facts, UserNamespace
from polyarch.plan.model import BuildPlan, Fault, Strategy
from polyarch.plan.planner import Wishes, plan

AMD64, ARM64, S390X = map(parse_platform, ("amd64", "arm64", "s390x"))
NO_WISHES = Wishes()
TWO_STAGES = "FROM base AS build\nRUN make\nFROM base\nCOPY --from=build /x /x\n"


def facts(emulated: tuple[Platform, ...], *, own_binfmt: bool = True) -> Facts:
    return Facts(
        platform=AMD64,
        kernel="6.18",
        uid=0,
        distribution="",
        cgroups="v2",
        tools=(),
        isolations=(),
        storage_drivers=(),
        binfmt_mounted=False,
        binfmt_on=False,
        handlers=(),
        namespace=UserNamespace(True, own_binfmt),
        native=(AMD64,),
        emulators=tuple(Emulator(p, Path(f"/usr/bin/qemu-{p.architecture}"), (9, 0), ()) for p in emulated),
        compilers=(),
    )


def base(*platforms: Platform, plain: bool = False) -> BaseAnswer:
    return BaseAnswer("base", "store", tuple((p, f"sha256:{i:064}") for i, p in enumerate(platforms)), plain=plain)


def make(
    text: str, targets: tuple[Platform, ...], answer: BaseAnswer, found: Facts, wishes: Wishes = NO_WISHES
) -> BuildPlan:
    graphs = {target: resolve(parse_dockerfile(text, "Dockerfile"), target, AMD64, {}) for target in targets}
    return plan(
        "Dockerfile", graphs, {name: answer for graph in graphs.values() for name in graph.images}, found, wishes
    )


def test_native_where_the_processor_runs_it_and_emulated_elsewhere() -> None:
    found = make("FROM base\nRUN x\n", (AMD64, ARM64), base(AMD64, ARM64), facts((ARM64,)))
    assert [entry.stages[0].strategy for entry in found.platforms] == [Strategy.NATIVE, Strategy.EMULATE]
    assert found.ok
    assert all(stage.reason for entry in found.platforms for stage in entry.stages)


def test_a_stage_without_run_needs_no_emulator() -> None:
    found = make(TWO_STAGES.replace("RUN make\n", ""), (S390X,), base(S390X), facts(()))
    assert found.ok
    assert {stage.strategy for stage in found.platforms[0].stages} == {Strategy.NATIVE}


def test_a_run_that_nothing_executes_is_a_problem_of_the_machine_with_its_fix() -> None:
    found = make("FROM base\n\nRUN x\n", (S390X,), base(S390X), facts(()))
    (problem,) = found.platforms[0].problems
    assert problem.fault is Fault.HOST
    assert "apt-get install" in problem.hint


def test_a_base_without_the_platform_says_which_it_has() -> None:
    found = make(TWO_STAGES, (S390X,), base(AMD64, ARM64), facts((S390X,)))
    assert "it has linux/amd64, linux/arm64" in found.platforms[0].problems[0].message
    assert {problem.line for problem in found.platforms[0].problems} == {1, 3}


def test_a_plain_manifest_of_another_platform_is_no_base() -> None:
    found = make("FROM base\n", (ARM64,), base(AMD64, plain=True), facts((ARM64,)))
    assert "single image" in found.platforms[0].problems[0].message


CROSS = "FROM --platform=$BUILDPLATFORM base AS b\nRUN x\nFROM base\nCOPY --from=b /x /x\n"


def test_a_pinned_stage_is_cross_on_every_target_but_the_build_platform() -> None:
    every = base(AMD64, ARM64, S390X)
    found = make(CROSS, (AMD64, ARM64, S390X), every, facts(()))
    assert found.ok
    ways = [entry.stages[0].strategy for entry in found.platforms]
    assert ways == [Strategy.NATIVE, Strategy.CROSS, Strategy.CROSS]
    assert "pinned to the build platform, so it runs natively; the same" in found.platforms[1].stages[0].reason
    each = make(CROSS.replace("RUN x", "ARG TARGETARCH\nRUN x"), (ARM64,), every, facts(()))
    assert "takes in TARGETARCH: once for each platform" in each.platforms[0].stages[0].reason


@pytest.mark.parametrize("platform", ["linux/amd64", "$BUILDPLATFORM"])
def test_an_image_that_is_pinned_to_another_platform_is_refused_before_anything_runs(platform: str) -> None:
    found = make(f"FROM --platform={platform} base\nRUN x\n", (AMD64, ARM64), base(AMD64, ARM64), facts((ARM64,)))
    assert not found.platforms[0].problems
    (problem,) = found.platforms[1].problems
    assert problem.fault is Fault.INPUT
    assert (problem.line, "pinned to linux/amd64" in problem.message) == (1, True)
    assert "take --platform off" in problem.hint


def test_cross_can_be_insisted_on_where_nothing_is_emulated() -> None:
    every, wishes = base(AMD64, ARM64), Wishes(single={ARM64: Strategy.CROSS})
    assert make(CROSS, (ARM64,), every, facts((ARM64,)), wishes).ok
    (problem,) = make(TWO_STAGES, (ARM64,), every, facts((ARM64,)), wishes).platforms[0].problems
    assert "stage build has RUN steps and is not pinned" in problem.message


def test_an_older_variant_of_arm_serves_a_newer_one() -> None:
    v6, v7 = parse_platform("linux/arm/v6"), parse_platform("linux/arm/v7")
    assert base(v6).digest(v7) is not None
    assert base(v7).digest(v6) is None


PLATFORMS = st.sampled_from(sorted(ARCHES))


@given(
    st.lists(PLATFORMS, min_size=1, unique=True),
    st.sets(PLATFORMS),
    st.sets(PLATFORMS),
    st.booleans(),
    st.sampled_from([TWO_STAGES, "FROM base\nRUN x\n", "FROM base\nCOPY a /\n", "FROM scratch\nCOPY a /\n"]),
)
def test_never_a_way_that_cannot_run_and_always_the_same_plan(
    targets: list[Platform], offered: set[Platform], emulated: set[Platform], own: bool, text: str
) -> None:
    found = facts(tuple(sorted(emulated)), own_binfmt=own)
    answer = base(*sorted(offered))
    first = make(text, tuple(targets), answer, found)
    assert first == make(text, tuple(targets), answer, found)
    for entry in first.platforms:
        if not entry.problems:
            assert "base" not in text or answer.digest(entry.platform) is not None
            if "RUN" in text:
                assert found.execution(entry.platform).way != "none"
            for stage in entry.stages:
                if stage.strategy is Strategy.EMULATE:
                    assert stage.platform not in found.native, "what is native is never emulated"
