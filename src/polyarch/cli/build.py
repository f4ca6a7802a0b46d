"""`polyarch build`: one Dockerfile becomes one index that is proved before it gets its name."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from polyarch.cli.common import (
    Json,
    Platforms,
    TlsVerify,
    finish,
    print_json,
    sink,
    store,
)
from polyarch.cli.request import BuildArgs, Context, Contexts, File, Strategies, Target, read
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.build.execute import Outcome
    from polyarch.build.model import Request
    from polyarch.oci.layout import Layout
    from polyarch.oci.model import Document
    from polyarch.report import Sink


def build(
    context: Context,
    file: File = None,
    tag: Annotated[list[str] | None, typer.Option("-t", "--tag", help="Name of the result; repeatable.")] = None,
    platform: Platforms = None,
    build_arg: BuildArgs = None,
    target: Target = "",
    build_context: Contexts = None,
    strategy: Strategies = None,
    secret: Annotated[list[str] | None, typer.Option("--secret", help="id=ID,src=FILE for RUN --mount.")] = None,
    ssh: Annotated[
        list[str] | None, typer.Option("--ssh", help="default or ID[=SOCKET|KEY] for RUN --mount=type=ssh.")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("-o", "--output", help="oci:DIR[:TAG], oci-archive:FILE or type=oci,dest=FILE.")
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Push every tag once the index is whole.")] = False,
    format: Annotated[Literal["oci", "docker"], typer.Option("--format", help="Media types.")] = "oci",
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Finish the others when one fails.")] = False,
    prove_graft: Annotated[
        bool, typer.Option("--prove-graft", help="Build grafted platforms by emulation, too, and compare (exit 3).")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Build every step anew.")] = False,
    accelerate: Annotated[
        bool, typer.Option("--accelerate/--no-accelerate", help="Run native twins of tools where emulation would.")
    ] = True,
    prove_acceleration: Annotated[
        bool, typer.Option("--prove-acceleration", help="Build all steps anew and plainly, too, and compare (exit 3).")
    ] = False,
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Build a Dockerfile for several platforms side by side; prove the result; tag, write or push it as one index."""
    from polyarch.oci.output import parse_output
    from polyarch.oci.reference import parse_reference
    from polyarch.verify.gate import prove

    request = replace(
        read(context, file, platform, build_arg, target, build_context, strategy, tls_verify=tls_verify),
        tags=tuple(parse_reference(text) for text in tag or []),
        secrets=tuple(_secret(text) for text in secret or []),
        ssh=tuple(_agent(text) for text in ssh or []),
        docker_format=format == "docker",
        keep_going=keep_going,
        no_cache=no_cache or prove_acceleration,
        accelerate=accelerate,
        prove_acceleration=prove_acceleration,
        prove_graft=prove_graft,
    )
    _check(request, push)
    outputs = [parse_output(text) for text in output or []]
    layout, show = store(), sink(json)
    outcome, index = finish(_build(request, layout, show))
    # outside of the event loop, where Ctrl-C ends it at once
    prove(layout, index, str(request.tags[0]) if request.tags else "the index", show)
    for wanted in outputs:
        wanted.write(layout, index)
    layout.tag(index, [str(reference) for reference in request.tags])
    if push:
        finish(_push(request, layout, index, show))
    _tell(request, outcome, index, json)


def _check(request: Request, push: bool) -> None:
    for reference in request.tags:
        if reference.digest:
            raise InputError(f"{reference} names a digest", hint="tag a name; the digest follows from the content")
    if push and not request.tags:
        raise InputError("--push needs a name to push to", hint="add -t HOST/NAME:TAG")


def _secret(text: str) -> str:
    """`id=ID,src=FILE` with the file's path made absolute: buildah looks from another folder. Raises `InputError`."""
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    path = fields.pop("src", "") or fields.pop("source", "")
    if "env" in fields or not path or not fields.get("id"):
        raise InputError(f"--secret wants id=ID,src=FILE, not {text!r}")
    if not Path(path).is_file():
        raise InputError(f"--secret {fields['id']}: there is no file {path}")
    return ",".join([*(f"{name}={value}" for name, value in fields.items() if value), f"src={Path(path).absolute()}"])


def _agent(text: str) -> str:
    """`ID=SOCKET` or `ID=KEY`, absolute; an ID alone means the agent of SSH_AUTH_SOCK. Raises `InputError`."""
    name, _, path = text.partition("=")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path or not Path(path).exists():
        raise InputError(f"--ssh {text}: there is no agent or key {path}", hint="eval $(ssh-agent); ssh-add")
    return f"{name}={Path(path).absolute()}"


async def _build(request: Request, layout: Layout, show: Sink) -> tuple[Outcome, Document]:
    from polyarch.build.execute import execute, prove_grafts
    from polyarch.build.prepare import prepare, refuse, remarks
    from polyarch.build.work import work
    from polyarch.facts.gather import gather
    from polyarch.report import Event

    facts = gather()
    prepared = await prepare(request, facts, layout)
    refuse(prepared)
    for remark in remarks(prepared):
        show(Event("note", "Dockerfile", remark))
    todo = work(prepared)
    outcome = await execute(prepared, todo, facts, layout, show)
    if outcome.index is None:
        raise _failed(outcome)
    if request.prove_graft:
        await prove_grafts(prepared, todo, outcome, facts, layout, show)
    if request.prove_acceleration:
        from polyarch.build.equal import prove_acceleration

        await prove_acceleration(request, outcome, facts, layout, show)
    layout.store(outcome.index)
    return outcome, outcome.index


async def _push(request: Request, layout: Layout, index: Document, show: Sink) -> None:
    from polyarch.registry.ship import ship

    for reference in request.tags:
        await ship(layout, index, reference, show, tls_verify=request.tls_verify)


def _failed(outcome: Outcome) -> Exception:
    """One error for all platforms that failed; a single failure is told as it is."""
    from polyarch.errors import BuildError

    failures = list(dict.fromkeys(outcome.failures.values()))  # several may have failed in a stage that they share
    if len(failures) == 1:
        return failures[0]
    detail = "\n\n".join(f"{error.message}\n{error.detail}\n{error.hint}" for error in failures)
    return BuildError(
        f"{len(outcome.failures)} platforms failed", detail=detail, hint="what finished is kept for the next run"
    )


def _tell(request: Request, outcome: Outcome, index: Document, json: bool) -> None:
    names = [str(reference) for reference in request.tags]
    if json:
        images = [image.as_dict() for image in outcome.images]
        print_json({"digest": index.digest, "names": names, "images": images})
    else:
        for name in names:
            print(name)
        print(index.digest)
