"""What of the context a stage depends on: the paths that it names, everything where it cannot be told."""

from pathlib import Path

import pytest

from polyarch.dockerfile.context import context_states, states_digest
from polyarch.dockerfile.parse import context_sources, parse_dockerfile


@pytest.mark.parametrize(
    ("line", "sources"),
    [
        ("COPY a ./b/ /d/", ("a", "b")),
        ("COPY . /d", ("",)),
        ("COPY ../a /d", ("a",)),
        ("COPY *.c /d", ("",)),
        ("COPY $X /d", ("",)),
        ("COPY --from=x a /d", ()),
        ("COPY <<E /d\nx\nE", ()),
        ("COPY <<E a /d/\nx\nE", ("a",)),
        ('ADD ["a b", "/d"]', ("a b",)),
        ("ADD https://example.com/a /d", ()),
        ("RUN --mount=target=/src x", ("",)),
        ("RUN --mount=type=cache,target=/c x", ()),
        ("RUN --mount=from=x,target=/c x", ()),
        ("RUN x", ()),
    ],
)
def test_the_paths_that_an_instruction_reads(line: str, sources: tuple[str, ...]) -> None:
    (stage,) = parse_dockerfile(f"FROM x\n{line}\n", "Dockerfile").stages
    assert context_sources(stage.instructions[0]) == sources


def test_only_what_is_named_counts_unless_a_link_leads_elsewhere(tmp_path: Path) -> None:
    def digest(*sources: str) -> str:
        return states_digest(context_states(tmp_path, tmp_path / "Dockerfile"), sources)

    (tmp_path / "src").mkdir()
    for name in ("Dockerfile", "src/a", "src-not"):
        (tmp_path / name).write_text("1")
    before, whole = digest("src"), digest("")
    for name in ("Dockerfile", "src-not"):
        (tmp_path / name).write_text("2")
    assert digest("src") == before
    assert digest("") != whole
    (tmp_path / "src/a").write_text("2")
    changed = digest("src")
    assert changed != before
    (tmp_path / "src/link").symlink_to("../src-not")
    linked = digest("src")
    (tmp_path / "src-not").write_text("3")
    assert digest("src") != linked
