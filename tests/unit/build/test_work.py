"""A stage's key: the same where nothing differs, another one for each input that does."""

from pathlib import Path

import pytest

from polyarch.arch import Platform, parse_platform
from polyarch.base.model import BaseAnswer
from polyarch.build.engine import base_name, stage_name
from polyarch.build.model import Request
from polyarch.build.prepare import Prepared
from polyarch.build.work import StageWork, Work, work
from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.plan.model import BuildPlan

AMD64, ARM64, S390X = map(parse_platform, ("amd64", "arm64", "s390x"))
DIGESTS = {platform: f"sha256:{number:064}" for number, platform in enumerate((AMD64, ARM64, S390X))}
PINNED = "FROM --platform=$BUILDPLATFORM base AS tools\nCOPY src /src\nRUN x\n"
LAST = "FROM base\nCOPY --from=tools /x /x\nRUN y\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a").write_text("a")
    (tmp_path / "other").write_text("b")
    return tmp_path


def works(context: Path, text: str, args: dict[str, str] | None = None, secrets: tuple[str, ...] = ()) -> list[Work]:
    """The builds for three platforms, on one base."""
    targets = tuple(DIGESTS)
    request = Request(context, context / "Dockerfile", targets, build_args=tuple((args or {}).items()), secrets=secrets)
    parsed = parse_dockerfile(text, "Dockerfile")
    graphs = {target: resolve(parsed, target, AMD64, args or {}) for target in targets}
    bases = {name: BaseAnswer(name, "store", tuple(DIGESTS.items())) for name in graphs[AMD64].images}
    return list(work(Prepared(request, parsed, graphs, bases, BuildPlan("Dockerfile", AMD64, ()), graphs[AMD64])))


def first(context: Path, text: str, args: dict[str, str] | None = None, secrets: tuple[str, ...] = ()) -> StageWork:
    return works(context, text, args, secrets)[1].stages[0]


def test_a_pinned_stage_is_one_for_all_and_what_is_made_of_it_differs(context: Path) -> None:
    found = works(context, PINNED + LAST)
    tools = {item.stages[0] for item in found}
    assert len(tools) == 1
    assert len({item.stages[1].key for item in found}) == len({item.key for item in found}) == 3
    arm = found[1].stages[1]
    assert arm.needs == (found[0].stages[0].key,)
    assert arm.bases == (DIGESTS[ARM64],)
    assert f"FROM --platform=linux/amd64 {stage_name(arm.needs[0])} AS tools" in arm.pinned.text
    assert base_name(DIGESTS[ARM64]) in arm.pinned.text


@pytest.mark.parametrize(("declared", "keys"), [("TARGETOS", 1), ("TARGETARCH", 3), ("BUILDARCH", 1), ("OTHER", 1)])
def test_only_an_argument_that_differs_makes_a_stage_of_its_own(context: Path, declared: str, keys: int) -> None:
    found = works(context, PINNED.replace("RUN", f"ARG {declared}\nRUN") + LAST)
    assert len({item.stages[0].key for item in found}) == keys


@pytest.mark.parametrize("change", ["RUN z", "ENV A=1", "# nothing"])
def test_a_changed_last_stage_leaves_the_first_as_it_is(context: Path, change: str) -> None:
    before, after = (works(context, f"{PINNED}{LAST}{more}\n")[1] for more in ("", change))
    assert before.stages[0].key == after.stages[0].key
    assert (before.key == after.key) == change.startswith("#")
    assert [stage.label for stage in after.missing({before.stages[0].key})] == ["stage-1"]
    assert after.missing({after.stages[1].key}) == ()
    assert after.missing(()) == after.stages


def test_what_a_stage_does_not_take_in_does_not_count(context: Path) -> None:
    text = PINNED.replace("COPY", "ARG USED\nCOPY") + LAST
    key = first(context, text).key
    (context / "other").write_text("changed")
    (context / "Dockerfile").write_text("written")
    assert first(context, text, {"UNUSED": "1"}, ("id=s,src=/x",)).key == key
    assert first(context, text, {"USED": "1"}).key != key
    (context / "src" / "a").write_text("changed")
    assert first(context, text).key != key


def test_a_secret_counts_by_its_name_alone(context: Path) -> None:
    text = PINNED.replace("RUN x", "RUN --mount=type=secret,id=s x") + LAST
    one, other, none = (first(context, text, None, s).key for s in (("id=s,src=/x",), ("id=s,src=/y",), ()))
    assert one == other != none


def test_a_stage_that_puts_something_off_is_not_read_as_an_image(context: Path) -> None:
    text = "FROM base AS parent\nONBUILD RUN x\nRUN y\nFROM parent AS child\nFROM base\nCOPY --from=parent / /p\n"
    parent, child = works(context, text + "COPY --from=child / /c\n")[0].stages[:2]
    last = works(context, text + "COPY --from=child / /c\n")[0].stages[2]
    assert f"FROM --platform=linux/amd64 {stage_name(parent.key)} AS child" in child.pinned.text
    assert last.needs == (child.key,)
    assert "RUN y" in last.pinned.text


def platforms_told(found: list[Work]) -> list[Platform]:
    return [item.stages[0].platform for item in found]


def test_buildah_is_told_the_target_where_the_stage_asks_for_it(context: Path) -> None:
    assert platforms_told(works(context, PINNED + LAST)) == [AMD64] * 3
    asked = PINNED.replace("RUN", "ARG TARGETARCH\nRUN") + LAST
    assert platforms_told(works(context, asked)) == [AMD64, ARM64, S390X]
