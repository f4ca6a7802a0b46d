"""From a request to everything that a build needs to know, without building: Dockerfile, graphs, bases, plan, keys."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from polyarch.arch import Platform
from polyarch.base import resolve as bases
from polyarch.base.model import BaseAnswer
from polyarch.build.engine import base_name
from polyarch.build.model import Request
from polyarch.dockerfile.context import context_digest
from polyarch.dockerfile.environment import DEFAULT_SHELL, BaseConfig
from polyarch.dockerfile.graph import Graph, ImageRef, resolve
from polyarch.dockerfile.lower import GeneratedFile
from polyarch.dockerfile.model import Dockerfile
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.dockerfile.rewrite import Pinned, pin
from polyarch.errors import HostError, InputError
from polyarch.facts.model import Facts
from polyarch.nodes import inventory
from polyarch.nodes.model import Answer
from polyarch.oci.layout import Layout
from polyarch.plan.advice import advised
from polyarch.plan.model import BuildPlan, Fault, GraftPlan, PlatformPlan, Problem
from polyarch.plan.place import candidates, claims, placed
from polyarch.plan.planner import plan
from polyarch.toolchain import context as toolchain
from polyarch.verify.promise import VERSION as PROMISE_VERSION

_UNPROVABLE = Problem(
    Fault.HOST, 0, "nothing here emulates it, so there is nothing to compare a graft with", "leave --prove-graft out"
)
_RECIPE = 1  # raised when the same inputs give another image


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with all its answers; `plan.ok` says whether it can be built.

    `source` is the graph of the native platform, whose image may give its layers to others; `nodes` are those that were
    asked, and what they said.
    """

    request: Request
    dockerfile: Dockerfile
    graphs: Mapping[Platform, Graph]
    bases: Mapping[str, BaseAnswer]
    plan: BuildPlan
    source: Graph
    nodes: tuple[Answer, ...] = ()

    def graph(self, platform: Platform) -> Graph:
        """The stages of a target, or of the native platform."""
        return self.graphs.get(platform, self.source)


@dataclass(frozen=True, slots=True)
class Graft:
    """Whose layers a platform gets: the build of `source`, and the manifests of both bases ("" for scratch).

    `forced`: no other way is wanted. `otherwise`: the platform can be built here, too.
    """

    source: Work
    bases: tuple[str, str]
    forced: bool
    otherwise: bool
    key: str


@dataclass(frozen=True, slots=True)
class Work:
    """One platform's build: the exact text for buildah, the bases it names, and the hash of all its inputs.

    With a `graft` this is how the platform is built only if the proof fails. `promise_of` is a manifest whose promise
    (of layers that were grafted) the result takes over.
    """

    platform: Platform
    pinned: Pinned
    base_digests: tuple[str, ...]
    key: str
    graft: Graft | None = None
    promise_of: str = ""

    @property
    def result_key(self) -> str:
        """What the result is kept under: the way that was asked for is an input, too."""
        return self.graft.key if self.graft else self.key


async def prepare(request: Request, facts: Facts, layout: Layout) -> Prepared:
    """Read the Dockerfile, ask for its bases, and plan.

    Raises `InputError` when the Dockerfile or the context cannot be read or understood.
    """
    dockerfile = read_dockerfile(request)

    def graphs(**on_build: Mapping[str, tuple[str, ...]]) -> dict[Platform, Graph]:
        wanted = dict.fromkeys((*request.platforms, native))
        return {
            p: resolve(dockerfile, p, host, arguments, request.target, contexts=contexts, **on_build) for p in wanted
        }

    contexts = () if dockerfile.stage_named(toolchain.NAME) else (toolchain.NAME,)
    arguments, host = dict(request.build_args), facts.platform
    native = next((p for p in request.platforms if p in facts.native), host)
    found = graphs()
    names = dict.fromkeys(name for graph in found.values() for name in graph.images)
    answers = await bases.answers(layout, names, tls_verify=request.tls_verify)
    on_build = {name: answer.on_build for name, answer in answers.items() if answer.on_build}
    if on_build:  # what a base put off until now may run, copy and need more images
        found = graphs(onbuild=on_build)
    wanted = {platform: found[platform] for platform in request.platforms}
    made = plan(str(request.dockerfile), wanted, answers, facts, request.wishes, found[native])
    nodes = await _ask(candidates(made, request.wishes))
    made = advised(placed(made, wanted, nodes, request.wishes), dockerfile, wanted, answers)
    return Prepared(request, dockerfile, wanted, answers, made, found[native], nodes)


async def _ask(platforms: frozenset[Platform]) -> tuple[Answer, ...]:
    """What the nodes say that may build these platforms; nobody is asked where there is nothing to build."""
    nodes = [node for node in inventory.load() if claims(node, platforms)] if platforms else []
    if not nodes:
        return ()
    from polyarch.nodes.ask import ask_all  # not worth its start-up time where there are no nodes

    return await ask_all(nodes)


def read_dockerfile(request: Request) -> Dockerfile:
    """Parse the request's Dockerfile. Raises `InputError` naming the file, and the line of a syntax error."""
    if not request.context.is_dir():
        raise _no_folder(request.context)
    try:
        text = request.dockerfile.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"no Dockerfile at {request.dockerfile}", hint="name it with -f FILE") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{request.dockerfile} cannot be read", detail=str(error)) from error
    return parse_dockerfile(text, str(request.dockerfile))


def remarks(prepared: Prepared) -> tuple[str, ...]:
    """What the build will leave out without failing, and what its plan warns of, told once for all platforms."""
    entries = reversed(prepared.plan.platforms)
    warned = {w.line: f"line {w.line}: {w.message} ({w.hint})" for entry in entries for w in entry.warnings}
    checks = [i for s in prepared.source.stages for i in s.instructions if i.keyword == "HEALTHCHECK"]
    if not checks or prepared.request.docker_format:
        return tuple(warned.values())
    check = f"line {checks[0].line}: the OCI format has no HEALTHCHECK, it is left out; --format docker keeps it"
    return (check, *warned.values())


def _no_folder(context: Path) -> InputError:
    if context.is_file():
        hint = f"the context is a folder, the Dockerfile an option: polyarch build -f {context} {context.parent}"
    elif ":/" in str(context) or str(context) == "-":
        hint = "a remote context is not fetched: clone or unpack it, and give that folder"
    else:
        hint = "give the build context: polyarch build PATH"
    return InputError(f"{context} is no folder", hint=hint)


def refuse(prepared: Prepared) -> None:
    """Raise for a plan that cannot be built: `InputError`, or `HostError` when only this machine is to blame."""
    problems = [(entry.platform, p) for entry in prepared.plan.platforms for p in entry.problems]
    if prepared.request.prove_graft:
        problems += [(entry.platform, _UNPROVABLE) for entry in prepared.plan.platforms if _unprovable(entry)]
    if not problems:
        return
    kind = HostError if all(p.fault is Fault.HOST for _, p in problems) else InputError
    detail = "\n".join(f"{platform}: {prepared.plan.dockerfile}:{p.line}: {p.message}" for platform, p in problems)
    hints = dict.fromkeys(p.hint for _, p in problems if p.hint)
    raise kind("the build would fail, so nothing was started", detail=detail, hint="; ".join(hints))


def _unprovable(entry: PlatformPlan) -> bool:
    return entry.graft is not None and not entry.graft.otherwise


def work(prepared: Prepared) -> tuple[Work, ...]:
    """The exact build of each platform; pure but for reading the context once."""
    request = prepared.request
    context = context_digest(request.context, request.dockerfile)
    found = {platform: _work(prepared, graph, context) for platform, graph in prepared.graphs.items()}
    native = prepared.source.target_platform
    grafts = {entry.platform: entry.graft for entry in prepared.plan.platforms if entry.graft}
    source = found.get(native) or (_work(prepared, prepared.source, context) if grafts else None)
    for platform, wish in grafts.items():
        if source is not None:
            found[platform] = replace(found[platform], graft=_graft(prepared, wish, source, found[platform]))
    return tuple(found[platform] for platform in request.platforms)


def _graft(prepared: Prepared, wish: GraftPlan, source: Work, target: Work) -> Graft:
    pair = (source.platform, target.platform)
    digests = tuple(_digest(prepared, wish.base, platform) if wish.base else "" for platform in pair)
    inputs = ["graft", PROMISE_VERSION, source.key, target.key, *digests, wish.forced]
    key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    return Graft(source, (digests[0], digests[1]), wish.forced, wish.otherwise, key)


def resume(prepared: Prepared, item: Work, image: str, done: int) -> Work:
    """The rest of a platform's build, on an image that has what the `done` first instructions of the target stage make.

    `image` is the digest of its manifest; the promise that it carries goes on to what is built.
    """
    graph = prepared.graph(item.platform)
    digests, copied = _digests(prepared, graph)
    pinned = _pinned(prepared, graph, digests | {graph.target.index: image}, copied, done)
    needed = tuple(digest for digest in item.base_digests if base_name(digest) in pinned.text)
    return replace(item, pinned=pinned, base_digests=(image, *needed), key=item.result_key, promise_of=image)


def _work(prepared: Prepared, graph: Graph, context: str) -> Work:
    request, platform = prepared.request, graph.target_platform
    digests, copied = _digests(prepared, graph)
    pinned = _pinned(prepared, graph, digests, copied)
    inputs = {
        "recipe": _RECIPE,
        "platform": str(platform),
        "dockerfile": pinned.text,
        "files": [(file.path, file.mode, hashlib.sha256(file.content).hexdigest()) for file in pinned.files],
        "toolchain": toolchain.digest(toolchain_files(graph)),
        "context": context,
        "build_args": sorted(request.build_args),
        "target": request.target,
        "secrets": sorted(request.secrets),
        "docker_format": request.docker_format,
    }
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    return Work(platform, pinned, tuple(dict.fromkeys([*digests.values(), *copied.values()])), key)


def toolchain_files(graph: Graph) -> tuple[GeneratedFile, ...]:
    """The build context of the cross toolchain, where a stage copies or mounts from it."""
    used = any(toolchain.NAME in stage.contexts for stage in graph.stages)
    return toolchain.files() if used else ()


def _digests(prepared: Prepared, graph: Graph) -> tuple[dict[int, str], dict[str, str]]:
    """The manifests that stages start from, by index, and that they copy from, by name."""
    started = {
        stage.index: _digest(prepared, stage.base.name, stage.platform)
        for stage in graph.stages
        if isinstance(stage.base, ImageRef)
    }
    copied = {name: _digest(prepared, name, graph.target_platform) for stage in graph.stages for name in stage.images}
    return started, copied


def _pinned(
    prepared: Prepared, graph: Graph, digests: Mapping[int, str], copied: Mapping[str, str], done: int = 0
) -> Pinned:
    return pin(
        prepared.dockerfile,
        graph,
        {index: base_name(digest) for index, digest in digests.items()},
        copied={name: base_name(digest) for name, digest in copied.items()},
        bases={
            stage.index: _config(prepared.bases[stage.base.name])
            for stage in graph.stages
            if isinstance(stage.base, ImageRef)
        },
        done=done,
    )


def _config(base: BaseAnswer) -> BaseConfig:
    """What here-documents need of a base: its variables and its shell."""
    env = dict(entry.partition("=")[::2] for entry in base.config.env or ())
    return BaseConfig(env, base.config.shell or DEFAULT_SHELL)


def _digest(prepared: Prepared, name: str, platform: Platform) -> str:
    digest = prepared.bases[name].digest(platform)
    if digest is None:  # `refuse` comes first
        raise InputError(f"base {name} lacks {platform}")
    return digest
