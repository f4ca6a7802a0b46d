"""Which platforms go to a node."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyarch.arch import Platform, parse_platform
from polyarch.dockerfile.graph import Graph, resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.nodes.model import Abilities, Address, Answer, Node
from polyarch.plan.model import BuildPlan, Fault, GraftPlan, PlatformPlan, Problem, StagePlan, Strategy
from polyarch.plan.place import candidates, placed
from polyarch.plan.planner import Wishes

NONE = Wishes()
AMD, ARM, Z = (parse_platform(name) for name in ("amd64", "arm64", "s390x"))
LACKING = Problem(Fault.HOST, 1, "nothing here executes it", "")
WRONG = Problem(Fault.INPUT, 1, "base lacks it", "")


def graph(platform: Platform, text: str = "FROM debian\nRUN true\n") -> Graph:
    return resolve(parse_dockerfile(text, "Dockerfile"), platform, AMD, {}, "")


def plan(strategy: Strategy, *problems: Problem, graft: GraftPlan | None = None, platform: Platform = ARM) -> BuildPlan:
    stage = StagePlan(0, "stage-0", platform, "debian", strategy, "because", Strategy.EMULATE if graft else None)
    return BuildPlan("Dockerfile", AMD, (PlatformPlan(platform, (stage,), problems, graft),))


def node(name: str, *platforms: Platform, why: str = "") -> Answer:
    able = Abilities("x", None, "buildah", (), "chroot", platforms, 0, 0, ())
    return Answer(Node(name, Address(name), platforms), None if why else able, why)


def place(made: BuildPlan, answers: Sequence[Answer], wishes: Wishes = NONE, of: Graph | None = None) -> PlatformPlan:
    platform = made.platforms[0].platform
    return placed(made, {platform: of or graph(platform)}, answers, wishes).platforms[0]


FORCED = Wishes(single={ARM: Strategy.NODE})


def test_a_node_comes_before_emulation_and_emulation_remains_if_it_dies() -> None:
    found = place(plan(Strategy.EMULATE), [node("z", Z), node("one", ARM, AMD), node("two", ARM)])
    assert found.node
    assert (found.node.names, found.node.otherwise) == (("one", "two"), True)
    assert (found.stages[0].strategy, found.stages[0].otherwise) == (Strategy.NODE, Strategy.EMULATE)


def test_a_node_stands_in_for_what_this_machine_lacks_but_not_for_what_the_input_lacks() -> None:
    found = place(plan(Strategy.EMULATE, LACKING, WRONG), [node("one", ARM)])
    assert found.problems == (WRONG,)
    assert found.node
    assert not found.node.otherwise


def test_what_is_native_or_wished_otherwise_asks_no_node() -> None:
    assert not candidates(plan(Strategy.NATIVE, platform=AMD), Wishes())
    assert not candidates(plan(Strategy.EMULATE), Wishes(Strategy.EMULATE))
    assert candidates(plan(Strategy.EMULATE), Wishes()) == {ARM}


def test_a_graft_stays_and_has_the_node_behind_it() -> None:
    found = place(plan(Strategy.GRAFT, graft=GraftPlan(AMD, "debian", False, False)), [node("one", ARM)])
    assert found.graft
    assert found.graft.otherwise
    assert (found.stages[0].strategy, found.stages[0].otherwise) == (Strategy.GRAFT, Strategy.NODE)
    assert found.node
    assert not found.node.otherwise


def test_forced_leaves_no_other_way_and_says_why_there_is_no_node() -> None:
    found = place(plan(Strategy.EMULATE), [node("one", ARM)], FORCED)
    assert found.node
    assert not found.node.otherwise
    (problem,) = place(plan(Strategy.EMULATE), [node("one", ARM, why="it is down")], FORCED).problems
    assert problem.fault is Fault.HOST
    assert "node one: it is down" in problem.message
    assert "there is no node" in place(plan(Strategy.EMULATE), [], FORCED).problems[0].message


def test_a_node_out_of_reach_is_named_where_it_is_missed() -> None:
    found = place(plan(Strategy.EMULATE), [node("one", ARM, why="it is down"), node("z", Z)])
    assert found.stages[0].reason == "because; no node: node one: it is down"


def test_a_node_must_execute_every_stage_that_does_not_run_here() -> None:
    def made_with(stage_platform: str) -> Graph:
        stage = f"FROM --platform={stage_platform} debian AS b\nRUN true\n"
        return graph(ARM, f"{stage}FROM debian\nRUN true\nCOPY --from=b / /\n")

    assert place(plan(Strategy.EMULATE), [node("one", ARM)], of=made_with("$BUILDPLATFORM")).node is not None
    assert place(plan(Strategy.EMULATE), [node("one", ARM)], of=made_with(str(Z))).node is None
    assert place(plan(Strategy.EMULATE), [node("one", ARM, Z)], of=made_with(str(Z))).node is not None


@given(
    st.lists(st.tuples(st.sets(st.sampled_from([AMD, ARM, Z])), st.booleans()), max_size=4),
    st.sampled_from([Strategy.EMULATE, Strategy.NATIVE]),
    st.sampled_from([(), (LACKING,), (WRONG,)]),
)
def test_never_a_node_that_cannot(
    nodes: list[tuple[set[Platform], bool]], strategy: Strategy, problems: tuple[Problem, ...]
) -> None:
    answers = [node(f"n{i}", *sorted(able), why="" if up else "down") for i, (able, up) in enumerate(nodes)]
    found = place(plan(strategy, *problems), answers)
    names = found.node.names if found.node else ()
    assert all(ARM in nodes[int(name[1:])][0] and nodes[int(name[1:])][1] for name in names)
    assert found == place(plan(strategy, *problems), answers)


@pytest.mark.parametrize("wish", [Strategy.NODE, None])
def test_a_wish_for_all_is_not_said_of_this_machines_own_platform(wish: Strategy | None) -> None:
    assert not candidates(plan(Strategy.NATIVE, platform=AMD), Wishes(wish))
