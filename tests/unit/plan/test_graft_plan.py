"""When the planner tries a graft: cheaper than emulation, and nothing in the Dockerfile asks for the target."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_planner import AMD64, ARM64, S390X, TWO_STAGES, base, facts

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.facts.model import Facts
from polyarch.plan.model import BuildPlan, Fault, PlatformPlan, Strategy
from polyarch.plan.planner import Wishes, plan

EVERY = base(AMD64, ARM64, S390X)
EMULATED = facts((ARM64, S390X))
UNFORCED = Wishes()
PURE = "FROM base\nRUN x\n"


def make(
    text: str,
    targets: tuple[Platform, ...] = (AMD64, ARM64),
    wishes: Wishes = UNFORCED,
    found: Facts = EMULATED,
    answer: BaseAnswer = EVERY,
) -> BuildPlan:
    parsed = parse_dockerfile(text, "Dockerfile")
    graphs = {target: resolve(parsed, target, AMD64, {}) for target in (*targets, AMD64)}
    bases = {name: answer for graph in graphs.values() for name in graph.images}
    return plan("Dockerfile", {p: graphs[p] for p in targets}, bases, found, wishes, graphs[AMD64])


def arm(text: str, way: Strategy | None = None, **more: Facts) -> PlatformPlan:
    return make(text, (ARM64,), Wishes(single={ARM64: way} if way else {}), **more).platforms[0]


def test_native_comes_before_graft_and_graft_before_emulation() -> None:
    native, foreign = make(TWO_STAGES).platforms
    assert {stage.strategy for stage in native.stages} == {Strategy.NATIVE}
    assert native.graft is None
    assert {stage.strategy for stage in foreign.stages} == {Strategy.GRAFT}
    assert {stage.otherwise for stage in foreign.stages} == {Strategy.EMULATE}
    assert "linux/amd64" in foreign.stages[0].reason


def test_copies_alone_are_native_and_need_no_graft() -> None:
    assert arm("FROM base\nCOPY a /\n").graft is None


def test_the_native_platform_need_not_be_a_target() -> None:
    found = arm(PURE).graft
    assert found is not None
    assert (found.source, found.base, found.forced, found.otherwise) == (AMD64, "base", False, True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("FROM base\nARG TARGETARCH\nRUN x\n", "stage-0 depends on TARGETARCH"),
        (
            "FROM --platform=$BUILDPLATFORM base AS b\nARG TARGETPLATFORM\n"
            "RUN x\nFROM base\nCOPY --from=b /a /a\nRUN y\n",
            "stage b depends on TARGETPLATFORM",
        ),
        ("ARG X=$TARGETARCH\nFROM base\nARG X\nRUN x\n", "depends on X"),
        ("FROM --platform=linux/s390x base\nRUN x\n", "pinned to linux/s390x"),
        ("FROM base-${TARGETARCH}\nRUN x\n", "another image"),
        ("FROM base AS amd64\nRUN x\nFROM base AS arm64\nRUN y\nFROM ${TARGETARCH}\nRUN z\n", "other stages"),
    ],
)
def test_what_depends_on_the_target_is_emulated_with_the_reason(text: str, why: str) -> None:
    found = arm(text)
    assert found.graft is None
    assert any(why in stage.reason for stage in found.stages if stage.strategy is Strategy.EMULATE)


def test_an_argument_that_is_the_same_for_both_is_no_obstacle() -> None:
    assert arm("FROM base\nARG TARGETOS\nRUN x\n").graft is not None


def test_a_base_that_lacks_the_native_platform_cannot_be_grafted() -> None:
    found = make(PURE, (ARM64,), answer=base(ARM64)).platforms[0]
    assert found.graft is None
    assert not found.problems


def test_a_forced_way_is_taken_or_refused() -> None:
    assert arm(PURE, Strategy.EMULATE).stages[0].strategy is Strategy.EMULATE
    forced = arm(PURE, Strategy.GRAFT)
    assert forced.graft is not None
    assert forced.graft.forced
    assert forced.stages[0].otherwise is None
    for text, way, why in (
        ("FROM base\nARG TARGETARCH\nRUN x\n", Strategy.GRAFT, "depends on TARGETARCH"),
        (PURE, Strategy.NATIVE, "does not execute"),
    ):
        (problem,) = arm(text, way).problems
        assert problem.fault is Fault.INPUT
        assert why in problem.message


def test_what_is_wished_everywhere_leaves_native_platforms_alone() -> None:
    for way in (Strategy.GRAFT, Strategy.EMULATE):
        native, foreign = make(PURE, wishes=Wishes(way)).platforms
        assert native.stages[0].strategy is Strategy.NATIVE
        assert foreign.stages[0].strategy is way
    (problem,) = make(PURE, wishes=Wishes(single={AMD64: Strategy.EMULATE})).platforms[0].problems
    assert "own processor" in problem.message


def test_without_an_emulator_a_graft_is_the_only_way_and_says_so() -> None:
    found = arm(PURE, found=facts(()))
    assert found.graft is not None
    assert not found.graft.otherwise
    assert not found.problems
    assert "no other way" in found.stages[0].reason


@pytest.mark.parametrize(
    "run",
    [
        "RUN apt-get update && apt-get install -y curl",
        "RUN apk add --no-cache curl",
        "RUN set -e; \\\n  dnf -y install curl",
        "RUN <<E\napt-get -qy upgrade\nE",
    ],
)
def test_what_installs_packages_is_not_tried_unless_it_is_forced(run: str) -> None:
    below = f"FROM base AS packages\n{run}\nFROM packages\nRUN x\n"
    found = arm(below)
    assert found.graft is None
    assert "no graft: stage packages installs packages in line 2" in found.stages[-1].reason
    assert arm(below, Strategy.GRAFT).graft is not None
    assert arm(below, found=facts(())).graft is not None, "where nothing emulates, there is nothing to lose"
    assert arm(f"FROM base AS packages\n{run}\nFROM base\nCOPY --from=packages /a /a\nRUN x\n").graft is not None


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([AMD64, ARM64, S390X]), min_size=1, unique=True),
    st.sets(st.sampled_from([ARM64, S390X])),
    st.sets(st.sampled_from([AMD64, ARM64, S390X]), min_size=1),
    st.sampled_from([PURE, TWO_STAGES, "FROM base\nARG TARGETARCH\nRUN x\n", "FROM base\nCOPY a /\n"]),
)
def test_a_cheaper_way_that_is_sound_is_never_passed_over(
    targets: list[Platform], emulated: set[Platform], offered: set[Platform], text: str
) -> None:
    found, answer = facts(tuple(sorted(emulated))), base(*sorted(offered))
    first = make(text, tuple(targets), found=found, answer=answer)
    assert first == make(text, tuple(targets), found=found, answer=answer)
    for entry in first.platforms:
        ways = {stage.strategy for stage in entry.stages}
        if entry.problems:
            continue
        assert answer.digest(entry.platform) is not None
        if entry.platform == AMD64 or "RUN" not in text:
            assert ways == {Strategy.NATIVE}
        elif "TARGETARCH" not in text and AMD64 in offered:
            assert ways == {Strategy.GRAFT}
        else:
            assert Strategy.EMULATE in ways
            assert found.execution(entry.platform).way != "none"
