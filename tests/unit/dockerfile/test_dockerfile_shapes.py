"""The corpus against BuildKit's own parser, and through the whole room."""

from __future__ import annotations

import dockerfile as oracle
import pytest
from dockerfile_shapes import ALL

from polyarch.arch import Platform
from polyarch.dockerfile.graph import resolve
from polyarch.dockerfile.lower import CONTEXT
from polyarch.dockerfile.model import Dockerfile, Instruction
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.dockerfile.rewrite import pin

ARM64, AMD64 = Platform("linux", "arm64"), Platform("linux", "amd64")


def _ours(file: Dockerfile) -> list[tuple[object, ...]]:
    """All instructions but FROM and the global ARGs, as the oracle tells them."""
    told: list[tuple[object, ...]] = []
    for stage in file.stages:
        for instruction in stage.instructions:
            active: Instruction = instruction.trigger or instruction
            documents = tuple((document.name, document.content) for document in active.heredocs)
            told.append((
                instruction.keyword, active.keyword if instruction.trigger else "", active.json, instruction.line,
                instruction.end_line, active.args,
                # The oracle tells neither the here-documents nor the flags of a trigger.
                () if instruction.trigger else documents, () if instruction.trigger else active.flags,
            ))  # fmt: skip
    return told


def _theirs(text: str) -> list[tuple[object, ...]]:
    commands = oracle.parse_string(text)
    first = next(number for number, command in enumerate(commands) if command.cmd.upper() == "FROM")
    return [
        (
            command.cmd.upper(), (command.sub_cmd or "").upper(), command.json, command.start_line, command.end_line,
            command.value, tuple((document.name, document.content) for document in command.heredocs), command.flags,
        )
        for command in commands[first:]
        if command.cmd.upper() != "FROM"
    ]  # fmt: skip


@pytest.mark.parametrize("text", ALL)
def test_a_shape_is_read_as_buildkit_reads_it(text: str) -> None:
    assert _ours(parse_dockerfile(text, "Dockerfile")) == _theirs(text)


@pytest.mark.parametrize("text", ALL)
def test_a_shape_resolves_and_is_pinned_without_heredocs_or_moved_lines(text: str) -> None:
    file = parse_dockerfile(text, "Dockerfile")
    graph = resolve(file, ARM64, AMD64, {})
    images = {stage.index: f"localhost/pinned:{stage.index}" for stage in graph.stages}
    pinned = pin(file, graph, images)
    assert pinned.text.count("\n") == text.count("\n")
    again = parse_dockerfile(pinned.text, "Dockerfile")
    assert not any((i.trigger or i).heredocs for stage in again.stages for i in stage.instructions)
    assert again.stages[graph.target.index].base == f"localhost/pinned:{graph.target.index}"
    assert bool(pinned.files) == (f"from={CONTEXT}" in pinned.text)


def test_the_corpus_holds_two_hundred_shapes() -> None:
    assert len(set(ALL)) >= 200
