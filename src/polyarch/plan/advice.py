"""What a plan tells beside the ways that it takes: stages that could be pinned, and RUNs that will not work. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.dockerfile.graph import Graph
from polyarch.dockerfile.model import Dockerfile
from polyarch.plan.foreign import warnings
from polyarch.plan.model import BuildPlan
from polyarch.plan.pin import pinnable


def advised(
    made: BuildPlan, dockerfile: Dockerfile, graphs: Mapping[Platform, Graph], bases: Mapping[str, BaseAnswer]
) -> BuildPlan:
    """The plan with its advice."""
    platforms = tuple(replace(entry, warnings=warnings(graphs[entry.platform])) for entry in made.platforms)
    return replace(made, platforms=platforms, pinnable=pinnable(made, dockerfile, graphs, bases))
