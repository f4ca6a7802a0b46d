"""What the plan tells beside each way, and the planner's promises over all kinds of machines and wishes."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from test_planner import AMD64, ARM64, CROSS, S390X, TWO_STAGES, base, facts

from polyarch.arch import Platform
from polyarch.dockerfile.graph import Graph, resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.plan.detail import Known, detailed
from polyarch.plan.graft import forecast, obstacle
from polyarch.plan.model import BuildPlan, StagePlan, Strategy
from polyarch.plan.picture import dot, mermaid
from polyarch.plan.planner import Wishes, plan
from polyarch.plan.times import Took
from polyarch.plan.why import explained, reasons

EVERY = base(AMD64, ARM64, S390X)
TEXTS = (
    TWO_STAGES,
    CROSS,
    CROSS.replace("RUN x", "ARG TARGETARCH\nRUN x"),
    CROSS + "RUN y\n",
    "FROM base\nRUN apt-get install -y x\n",
    "FROM base\nARG TARGETARCH\nRUN x\n",
    "FROM base\nCOPY a /\n",
    "FROM scratch\nCOPY a /\n",
    "FROM --platform=linux/amd64 base\nRUN x\n",
)
WAYS = (Strategy.NATIVE, Strategy.GRAFT, Strategy.CROSS, Strategy.EMULATE)  # `place` decides on nodes


def graphs_of(text: str, targets: tuple[Platform, ...]) -> dict[Platform, Graph]:
    parsed = parse_dockerfile(text, "Dockerfile")
    return {target: resolve(parsed, target, AMD64, {}) for target in targets}


def make(
    text: str, targets: tuple[Platform, ...], emulated: tuple[Platform, ...] = (ARM64, S390X),
    offered: tuple[Platform, ...] = (AMD64, ARM64, S390X), wishes: Mapping[Platform, Strategy] | None = None,
    history: tuple[Took, ...] = (), *, backwards: bool = False,
) -> BuildPlan:  # fmt: skip
    """The detailed plan; `backwards` gives every mapping in the other order."""
    turn = reversed if backwards else iter
    graphs = graphs_of(text, (*targets, AMD64))
    names = turn([name for graph in graphs.values() for name in graph.images])
    bases = {name: replace(base(*offered), name=name) for name in names}
    wanted = {target: graphs[target] for target in turn(targets)}
    wish = Wishes(single=dict(turn(list((wishes or {}).items()))))
    found = facts(emulated)
    made = plan("Dockerfile", wanted, bases, found, wish, graphs[AMD64])
    return detailed(made, Known(wanted, graphs[AMD64], bases, found, (), wish, history))


def refused(stage: StagePlan) -> dict[Strategy, str]:
    return {refusal.strategy: refusal.reason for refusal in stage.detail.refused}


def test_each_way_that_is_not_taken_has_its_reason() -> None:
    (entry,) = make("FROM base AS a\nRUN apt-get install -y x\n", (ARM64,)).platforms
    (stage,) = entry.stages
    assert stage.strategy is Strategy.EMULATE
    assert stage.detail.needs == ("qemu-arm64",)
    assert refused(stage) == {
        Strategy.NATIVE: "this machine's processor does not execute linux/arm64",
        Strategy.GRAFT: "stage a installs packages in line 2",
        Strategy.CROSS: "the stage is not pinned to the build platform",
        Strategy.NODE: "no node is known for it (polyarch node add)",
    }


def test_the_chain_goes_down_to_the_last_stage() -> None:
    (entry,) = make(CROSS + "RUN y\n", (ARM64,), wishes={ARM64: Strategy.EMULATE}).platforms
    text = "\n".join(explained(entry, entry.stages[-1]))
    assert text.index("linux/arm64:stage-1: emulate") < text.index("linux/arm64:b: cross")
    assert "made of   b" in text
    assert "--strategy says emulate" in text
    assert [stage["stage"] for stage in reasons(entry, entry.stages[-1])["stages"]] == ["stage-1", "b"]


def test_a_shared_stage_is_one_box_and_a_graft_comes_from_its_image() -> None:
    made = make(CROSS, (AMD64, ARM64, S390X))
    for text, arrow in ((mermaid(made), "s0 --> linux_arm64_s1"), (dot(made), "s0 -> linux_arm64_s1;")):
        assert text.count("FROM base") == 4
        assert arrow in text
    grafted = mermaid(make(TWO_STAGES, (AMD64, ARM64)))
    assert "linux_amd64_s1 --> linux_arm64_s1" in grafted
    assert "linux_arm64_s0" not in grafted


@settings(deadline=None)
@given(
    st.permutations([AMD64, ARM64, S390X]).flatmap(lambda p: st.integers(1, 3).map(lambda n: tuple(p[:n]))),
    st.sets(st.sampled_from([ARM64, S390X])).map(lambda found: tuple(sorted(found))),
    st.sets(st.sampled_from([AMD64, ARM64, S390X]), min_size=1).map(lambda found: tuple(sorted(found))),
    st.dictionaries(st.sampled_from([AMD64, ARM64, S390X]), st.sampled_from(WAYS)),
    st.sampled_from(TEXTS),
)
def test_only_what_can_run_nothing_cheaper_passed_over_and_the_same_in_any_order(
    targets: tuple[Platform, ...], emulated: tuple[Platform, ...], offered: tuple[Platform, ...],
    wishes: dict[Platform, Strategy], text: str,
) -> None:  # fmt: skip
    made = make(text, targets, emulated, offered, wishes)
    turned = make(text, targets, emulated, offered, wishes, backwards=True)
    assert sorted(made.platforms, key=lambda e: e.platform) == sorted(turned.platforms, key=lambda e: e.platform)
    graphs, answer = graphs_of(text, (*targets, AMD64)), base(*offered)
    bases = {name: answer for graph in graphs.values() for name in graph.images}
    for entry in made.platforms:
        graph = graphs[entry.platform]
        against = obstacle(graphs[AMD64], graph, bases)
        for stage in entry.stages if not entry.problems else ():
            _can_run(stage, entry.platform, graph, emulated, against)
            if entry.platform not in wishes and stage.strategy is Strategy.EMULATE:
                assert against or forecast(graph)
            cheaper = [way for way in WAYS if list(Strategy).index(way) < list(Strategy).index(stage.strategy)]
            if entry.platform not in wishes and stage.strategy is Strategy.EMULATE:
                assert all("costs less" not in refused(stage)[way] for way in cheaper)


def _can_run(
    stage: StagePlan, target: Platform, graph: Graph, emulated: tuple[Platform, ...], against: str
) -> None:  # fmt: skip
    resolved = graph.stage(stage.index)
    match stage.strategy:
        case Strategy.NATIVE:
            assert not resolved.executes or stage.platform == target == AMD64
        case Strategy.CROSS:
            assert resolved.executes
            assert stage.platform == AMD64 != target
        case Strategy.GRAFT:
            assert not against
        case _:
            assert stage.strategy is Strategy.EMULATE
            assert stage.platform in emulated
