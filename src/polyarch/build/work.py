"""From a plan to exact builds: each stage as a text for buildah, under the hash of all that goes into it.

A stage that is the same for several platforms has the same hash for each of them: that is how it is built only once,
and not at all when an earlier build left it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from polyarch.arch import Platform
from polyarch.base.model import BaseAnswer
from polyarch.build.engine import base_name, stage_name
from polyarch.build.prepare import Prepared
from polyarch.dockerfile.context import context_states, folder_digest, states_digest
from polyarch.dockerfile.environment import DEFAULT_SHELL, BaseConfig
from polyarch.dockerfile.grammar import arguments
from polyarch.dockerfile.graph import Graph, ImageRef, ResolvedStage, StageRef
from polyarch.dockerfile.model import Instruction
from polyarch.dockerfile.parse import context_sources
from polyarch.dockerfile.rewrite import Pinned, pin
from polyarch.errors import InputError
from polyarch.plan.model import GraftPlan
from polyarch.toolchain import context as toolchain
from polyarch.verify.promise import VERSION as PROMISE_VERSION

_THIS_RUN = secrets.token_hex(8)  # what a remote file holds is not known before it is fetched
_RECIPE = 2  # raised when the same inputs give another image


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the build contexts hold, read once: the state of each file by path, and a digest of each additional one."""

    states: Mapping[str, bytes]
    folders: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StageWork:
    """One stage, built by itself from images (`bases`, by digest) and from other stages (`needs`, by key).

    `platform` is what buildah is told to build for: the target where the stage takes in something of it, else the
    stage's own. `key` is the hash of all inputs. `toolchain`: it reads the build context of the cross toolchain.
    `anew`: buildah's own cache must not serve it, for that does not look at what a bind mount shows to a RUN.
    """

    index: int
    label: str
    platform: Platform
    key: str
    pinned: Pinned
    bases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    toolchain: bool = False
    anew: bool = False


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
    """One platform's build: its stages, each after those it needs, the last one its image; and the hash of all inputs.

    With a `graft` this is how the platform is built only if the proof fails. `promise_of` is a manifest whose promise
    (of layers that were grafted) the result takes over.
    """

    platform: Platform
    stages: tuple[StageWork, ...]
    key: str
    graft: Graft | None = None
    promise_of: str = ""

    @property
    def result_key(self) -> str:
        """What the result is kept under: the way that was asked for is an input, too."""
        return self.graft.key if self.graft else self.key

    def missing(self, known: Collection[str]) -> tuple[StageWork, ...]:
        """The stages that must be built when those with a key in `known` are there, in order."""
        stages = {stage.key: stage for stage in self.stages}
        found: set[str] = set()
        waiting = [self.stages[-1].key]
        while waiting:
            key = waiting.pop()
            if key not in known and key not in found:
                found.add(key)
                waiting += stages[key].needs
        return tuple(stage for stage in stages.values() if stage.key in found)


def work(prepared: Prepared) -> tuple[Work, ...]:
    """The exact build of each platform; pure but for reading once the contexts that stages copy from."""
    contexts = _contexts(prepared)
    found = {platform: _work(prepared, graph, contexts) for platform, graph in prepared.graphs.items()}
    native = prepared.source.target_platform
    grafts = {entry.platform: entry.graft for entry in prepared.plan.platforms if entry.graft}
    source = found.get(native) or (_work(prepared, prepared.source, contexts) if grafts else None)
    for platform, wish in grafts.items():
        if source is not None:
            found[platform] = replace(found[platform], graft=_graft(prepared, wish, source, found[platform]))
    return tuple(found[platform] for platform in prepared.request.platforms)


def resume(prepared: Prepared, item: Work, image: str, done: int) -> Work:
    """The rest of a platform's build, on an image that has what the `done` first instructions of the target stage make.

    `image` is the digest of its manifest; the promise that it carries goes on to what is built.
    """
    graph = prepared.graph(item.platform)
    below = {stage.index: stage for stage in item.stages[:-1]}
    rest = _stage(prepared, graph, below, _contexts(prepared), image, done)
    return replace(item, stages=(*item.stages[:-1], rest), key=item.result_key, promise_of=image)


def _contexts(prepared: Prepared) -> Contexts:
    """Nothing of what no stage copies from."""
    request = prepared.request
    stages = [stage for graph in (*prepared.graphs.values(), prepared.source) for stage in graph.stages]
    copied = any(context_sources(instruction) for stage in stages for instruction in _active(stage))
    named = {name for stage in stages for name in stage.contexts}
    folders = {name: folder_digest(folder) for name, folder in request.contexts if name in named}
    return Contexts(context_states(request.context, request.dockerfile) if copied else {}, folders)


def _work(prepared: Prepared, graph: Graph, contexts: Contexts) -> Work:
    made: dict[int, StageWork] = {}
    for number, stage in enumerate(graph.stages, 1):
        made[stage.index] = _stage(prepared, replace(graph, stages=graph.stages[:number]), made, contexts)
    platform = graph.target_platform
    key = _hash([_RECIPE, made[graph.target.index].key, str(platform), prepared.request.docker_format])
    return Work(platform, tuple(made.values()), key)


def _graft(prepared: Prepared, wish: GraftPlan, source: Work, target: Work) -> Graft:
    pair = (source.platform, target.platform)
    digests = tuple(_digest(prepared, wish.base, platform) if wish.base else "" for platform in pair)
    key = _hash(["graft", PROMISE_VERSION, source.key, target.key, *digests, wish.forced])
    return Graft(source, (digests[0], digests[1]), wish.forced, wish.otherwise, key)


def _stage(
    prepared: Prepared,
    graph: Graph,
    made: Mapping[int, StageWork],
    contexts: Contexts,
    image: str = "",
    done: int = 0,
) -> StageWork:
    """The last stage of a graph; `image` has what its `done` first instructions make already."""
    stage = graph.target
    digests, copied = _digests(prepared, graph)
    digests |= {stage.index: image} if image else {}
    pinned = _pinned(prepared, graph, made, digests, copied, done)
    standing = [
        graph.stage(index) for index in pinned.stages if index == stage.index or index not in _built(graph, made)
    ]
    foreign = bool(stage.images) or bool(stage.target_args)
    return StageWork(
        stage.index,
        stage.label,
        graph.target_platform if foreign else stage.platform,
        _key(prepared, graph, pinned, standing, contexts),
        pinned,
        tuple(
            digest
            for digest in dict.fromkeys([*digests.values(), *copied.values()])
            if base_name(digest) in pinned.text
        ),
        tuple(other.key for other in made.values() if stage_name(other.key) in pinned.text),
        any(toolchain.NAME in other.contexts for other in standing),
        any("bind" in other.mount_types for other in standing),
    )


def _key(
    prepared: Prepared, graph: Graph, pinned: Pinned, standing: Sequence[ResolvedStage], contexts: Contexts
) -> str:
    """The hash of everything that the stages which stand in a text take in."""
    request = prepared.request
    active = [instruction for stage in standing for instruction in _active(stage)]
    sources = {source for instruction in active for source in context_sources(instruction)}
    values = {name: graph.build_args.get(name, graph.scope.values.get(name)) for name in _declared(standing)}
    named = {name for stage in standing for name in stage.contexts}
    uses_toolchain = toolchain.NAME in named and toolchain.NAME not in contexts.folders
    has_secrets = any("secret" in stage.mount_types for stage in standing)
    return _hash({
        "recipe": _RECIPE,
        "text": list(_lines(prepared, pinned)),
        "escape": prepared.dockerfile.escape,
        "files": [(file.path, file.mode, hashlib.sha256(file.content).hexdigest()) for file in pinned.files],
        "args": values,
        "context": states_digest(contexts.states, sources) if sources else "",
        "contexts": {name: contexts.folders[name] for name in named & contexts.folders.keys()},
        "toolchain": toolchain.digest(toolchain.files()) if uses_toolchain else "",
        "remote": _THIS_RUN if any(map(_reads_remote, active)) else "",
        "secrets": sorted(_secret_id(secret) for secret in request.secrets) if has_secrets else [],
    })  # fmt: skip


def _hash(inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _lines(prepared: Prepared, pinned: Pinned) -> Iterator[str]:
    """What of the text counts: the stages that stand in it, without comments."""
    starts = [stage.line - 1 for stage in prepared.dockerfile.stages] + [None]
    lines = pinned.text.split("\n")
    for index in pinned.stages:
        for line in lines[starts[index] : starts[index + 1]]:
            if line.strip() and not line.lstrip().startswith("#"):
                yield line


def _secret_id(secret: str) -> str:
    return dict(field.partition("=")[::2] for field in secret.split(",")).get("id", "")


def _active(stage: ResolvedStage) -> tuple[Instruction, ...]:
    return (*stage.triggers, *stage.instructions)


def _reads_remote(instruction: Instruction) -> bool:
    """An ADD of an URL or a repository, whose content no digest in the Dockerfile states."""
    if instruction.keyword != "ADD" or instruction.flag("checksum"):
        return False
    return any("://" in word or word.startswith("git@") for word in instruction.args[:-1])


def _declared(stages: Sequence[ResolvedStage]) -> frozenset[str]:
    """The arguments that stages take in."""
    return frozenset(a.name for stage in stages for i in _active(stage) if i.keyword == "ARG" for a in arguments(i))


def _built(graph: Graph, made: Mapping[int, StageWork]) -> dict[int, str]:
    """The stages that others may read as images. One with ONBUILD is not: a FROM of it would run what was put off."""
    puts_off = {s.index for s in graph.stages if any(i.keyword == "ONBUILD" for i in s.instructions)}
    return {index: stage_name(stage.key) for index, stage in made.items() if index not in puts_off}


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
    prepared: Prepared,
    graph: Graph,
    made: Mapping[int, StageWork],
    digests: Mapping[int, str],
    copied: Mapping[str, str],
    done: int,
) -> Pinned:
    images = {index: base_name(digest) for index, digest in digests.items()}
    for stage in graph.stages:
        if isinstance(stage.base, StageRef) and stage.index not in images:
            images[stage.index] = stage_name(made[stage.base.index].key)
    return pin(
        prepared.dockerfile,
        graph,
        images,
        copied={name: base_name(digest) for name, digest in copied.items()},
        built=_built(graph, made),
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
