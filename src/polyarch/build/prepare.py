"""From a request to everything that a plan needs to know, without building: Dockerfile, graphs, bases, the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polyarch.arch import Platform
from polyarch.base import resolve as bases
from polyarch.base.model import BaseAnswer
from polyarch.build import history
from polyarch.build.model import Request
from polyarch.dockerfile.graph import Graph, resolve
from polyarch.dockerfile.model import Dockerfile
from polyarch.dockerfile.parse import parse_dockerfile
from polyarch.errors import HostError, InputError
from polyarch.facts.model import Facts
from polyarch.nodes import inventory
from polyarch.nodes.model import Answer
from polyarch.oci.layout import Layout
from polyarch.plan.advice import advised
from polyarch.plan.detail import Known, detailed
from polyarch.plan.model import BuildPlan, Fault, PlatformPlan, Problem
from polyarch.plan.place import candidates, claims, placed
from polyarch.plan.planner import plan
from polyarch.toolchain import context as toolchain

_UNPROVABLE = Problem(
    Fault.HOST, 0, "nothing here emulates it, so there is nothing to compare a graft with", "leave --prove-graft out"
)


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

    own = () if dockerfile.stage_named(toolchain.NAME) else (toolchain.NAME,)
    contexts = (*own, *(name for name, _ in request.contexts))
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
    known = Known(wanted, found[native], answers, facts, nodes, request.wishes, history.load())
    made = detailed(made, known)
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
