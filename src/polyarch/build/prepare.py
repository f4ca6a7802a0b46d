"""From a request to everything that a build needs to know, without building: Dockerfile, graphs, bases, plan, keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from polyarch.arch import Platform
from polyarch.base import resolve as bases
from polyarch.base.model import BaseAnswer
from polyarch.build.engine import base_name
from polyarch.build.model import Request
from polyarch.dockerfile.context import context_digest
from polyarch.dockerfile.environment import DEFAULT_SHELL, BaseConfig
from polyarch.dockerfile.graph import Graph, ImageRef, resolve
from polyarch.dockerfile.model import Dockerfile
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.dockerfile.rewrite import Pinned, pin
from polyarch.errors import HostError, InputError
from polyarch.facts.model import Facts
from polyarch.oci.layout import Layout
from polyarch.plan.model import BuildPlan, Fault
from polyarch.plan.planner import plan

_RECIPE = 1  # raised when the same inputs give another image


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with all its answers; `plan.ok` says whether it can be built."""

    request: Request
    dockerfile: Dockerfile
    graphs: Mapping[Platform, Graph]
    bases: Mapping[str, BaseAnswer]
    plan: BuildPlan


@dataclass(frozen=True, slots=True)
class Work:
    """One platform's build: the exact text for buildah, the bases it names, and the hash of all its inputs."""

    platform: Platform
    pinned: Pinned
    base_digests: tuple[str, ...]
    key: str


async def prepare(request: Request, facts: Facts, layout: Layout) -> Prepared:
    """Read the Dockerfile, ask for its bases, and plan.

    Raises `InputError` when the Dockerfile or the context cannot be read or understood.
    """
    dockerfile = read_dockerfile(request)
    arguments = dict(request.build_args)
    host = facts.platform
    graphs = {p: resolve(dockerfile, p, host, arguments, request.target) for p in request.platforms}
    names = dict.fromkeys(name for graph in graphs.values() for name in graph.images)
    found = await bases.answers(layout, names, tls_verify=request.tls_verify)
    on_build = {name: answer.on_build for name, answer in found.items() if answer.on_build}
    if on_build:  # what a base put off until now may run, copy and need more images
        graphs = {
            p: resolve(dockerfile, p, host, arguments, request.target, onbuild=on_build) for p in request.platforms
        }
    return Prepared(request, dockerfile, graphs, found, plan(str(request.dockerfile), graphs, found, facts))


def read_dockerfile(request: Request) -> Dockerfile:
    """Parse the request's Dockerfile. Raises `InputError` naming the file, and the line of a syntax error."""
    if not request.context.is_dir():
        raise InputError(f"{request.context} is no folder", hint="give the build context: polyarch build PATH")
    try:
        text = request.dockerfile.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no Dockerfile at {request.dockerfile}", hint="name it with -f FILE") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{request.dockerfile} cannot be read", detail=str(error)) from error
    return parse_dockerfile(text, str(request.dockerfile))


def refuse(prepared: Prepared) -> None:
    """Raise for a plan that cannot be built: `InputError`, or `HostError` when only this machine is to blame."""
    problems = [(entry.platform, p) for entry in prepared.plan.platforms for p in entry.problems]
    if not problems:
        return
    kind = HostError if all(p.fault is Fault.HOST for _, p in problems) else InputError
    detail = "\n".join(f"{platform}: {prepared.plan.dockerfile}:{p.line}: {p.message}" for platform, p in problems)
    hints = dict.fromkeys(p.hint for _, p in problems if p.hint)
    raise kind("the build would fail, so nothing was started", detail=detail, hint="; ".join(hints))


def work(prepared: Prepared) -> tuple[Work, ...]:
    """The exact build of each platform; pure but for reading the context once."""
    request = prepared.request
    context = context_digest(request.context, request.dockerfile)
    return tuple(_work(prepared, platform, context) for platform in request.platforms)


def _work(prepared: Prepared, platform: Platform, context: str) -> Work:
    request, graph = prepared.request, prepared.graphs[platform]
    digests = {
        stage.index: _digest(prepared, stage.base.name, stage.platform)
        for stage in graph.stages
        if isinstance(stage.base, ImageRef)
    }
    copied = {name: _digest(prepared, name, platform) for stage in graph.stages for name in stage.images}
    pinned = pin(
        prepared.dockerfile,
        graph,
        {index: base_name(digest) for index, digest in digests.items()},
        copied={name: base_name(digest) for name, digest in copied.items()},
        bases={
            stage.index: _config(prepared.bases[stage.base.name])
            for stage in graph.stages
            if isinstance(stage.base, ImageRef)
        },
    )
    inputs = {
        "recipe": _RECIPE,
        "platform": str(platform),
        "dockerfile": pinned.text,
        "files": [(file.path, file.mode, hashlib.sha256(file.content).hexdigest()) for file in pinned.files],
        "context": context,
        "build_args": sorted(request.build_args),
        "target": request.target,
        "secrets": sorted(request.secrets),
        "docker_format": request.docker_format,
    }
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return Work(platform, pinned, tuple(dict.fromkeys([*digests.values(), *copied.values()])), key)


def _config(base: BaseAnswer) -> BaseConfig:
    """What here-documents need of a base: its variables and its shell."""
    env = dict(entry.partition("=")[::2] for entry in base.config.env or ())
    return BaseConfig(env, base.config.shell or DEFAULT_SHELL)


def _digest(prepared: Prepared, name: str, platform: Platform) -> str:
    digest = prepared.bases[name].digest(platform)
    if digest is None:  # `refuse` comes first
        raise InputError(f"base {name} lacks {platform}")
    return digest
