"""A plan as a picture: Mermaid's flowchart (mermaid.js.org, "Flowcharts") and Graphviz' dot language. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from polyarch.plan.model import BuildPlan, PlatformPlan, StagePlan

_COLOURS = {"native": "#d5f0d5", "graft": "#d5e6f7", "cross": "#e6f5c9", "node": "#eadcf4", "emulate": "#fbe3c0"}


def mermaid(plan: BuildPlan) -> str:
    """A flowchart: a box for each platform, the stages in it, and what is shared beside them."""
    lines = ["flowchart LR"]
    for name, stages in _groups(plan):
        lines.append(f'  subgraph {_word(name)}["{name}"]')
        lines += [f'    {key}["{_text(stage, "<br/>")}"]:::{stage.strategy}' for key, stage in stages.items()]
        lines.append("  end")
    lines += [f"  {start} --> {end}" for start, end in _edges(plan)]
    lines += [f"  classDef {way} fill:{colour},stroke:#555,color:#000" for way, colour in _COLOURS.items()]
    return "\n".join(lines)


def dot(plan: BuildPlan) -> str:
    """A directed graph with a cluster for each platform."""
    lines = ["digraph plan {", "  rankdir=LR;", "  node [shape=box, style=filled];"]
    for name, stages in _groups(plan):
        lines += [f"  subgraph cluster_{_word(name)} {{", f"    label={json.dumps(name)};"]
        lines += [
            f'    {key} [label="{_text(stage, chr(92) + "n")}", fillcolor="{_COLOURS[stage.strategy]}"];'
            for key, stage in stages.items()
        ]
        lines.append("  }")
    lines += [f"  {start} -> {end};" for start, end in _edges(plan)]
    return "\n".join([*lines, "}"])


def _groups(plan: BuildPlan) -> Iterator[tuple[str, dict[str, StagePlan]]]:
    """What is shared, once, and then each platform with its own stages, by their keys."""
    shared = {_key(entry, s): s for entry in reversed(plan.platforms) for s in _stages(entry) if s.detail.shared}
    if shared:
        yield "every platform", shared
    for entry in plan.platforms:
        own = {_key(entry, stage): stage for stage in _stages(entry) if not stage.detail.shared}
        if own:
            yield str(entry.platform), own


def _stages(entry: PlatformPlan) -> tuple[StagePlan, ...]:
    """What is made for a platform: of a graft, the image alone."""
    return entry.stages[-1:] if entry.graft else entry.stages


def _edges(plan: BuildPlan) -> list[tuple[str, str]]:
    """From each stage to those that are made of it, and from an image to those that get its layers."""
    images = {entry.platform: _key(entry, entry.stages[-1]) for entry in plan.platforms}
    found = []
    for entry in plan.platforms:
        if entry.graft:
            found += [(images[entry.graft.source], images[entry.platform])] if entry.graft.source in images else []
            continue
        keys = {stage.label: _key(entry, stage) for stage in entry.stages}
        found += [(keys[below], keys[stage.label]) for stage in entry.stages for below in stage.detail.below]
    return list(dict.fromkeys(found))


def _key(entry: PlatformPlan, stage: StagePlan) -> str:
    return f"s{stage.index}" if stage.detail.shared else f"{_word(str(entry.platform))}_s{stage.index}"


def _text(stage: StagePlan, end: str) -> str:
    way = f"{stage.strategy}, else {stage.otherwise}" if stage.otherwise else str(stage.strategy)
    base = stage.base.replace('"', "'").replace("\\", "/")
    return f"{stage.label}{end}FROM {base}{end}{way}"


def _word(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)
