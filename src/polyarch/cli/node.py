"""`polyarch node`: machines and clusters that build for their own processors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from polyarch.cli.common import Json, finish, print_json, say, table

if TYPE_CHECKING:
    from polyarch.nodes.model import Answer

app = typer.Typer(name="node", help="Machines that build for their own processor.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command()
def add(
    name: Name,
    address: Annotated[
        str,
        typer.Argument(metavar="ADDRESS", help="ssh://[USER@]HOST[:PORT][/FOLDER] or kubernetes://CONTEXT/NAMESPACE."),
    ],
    platform: Annotated[
        list[str] | None, typer.Option("--platform", help="What it builds for; its own processor when left out.")
    ] = None,
    slots: Annotated[int, typer.Option("--slots", min=1, help="How many platforms it builds at once.")] = 2,
    image: Annotated[str, typer.Option("--image", help="What a cluster's pods run: buildah, a shell and tar.")] = "",
    json: Json = False,
) -> None:
    """Add a machine, once it answers and can build."""
    from polyarch.arch import parse_platforms
    from polyarch.errors import InputError
    from polyarch.nodes import inventory
    from polyarch.nodes.ask import ask
    from polyarch.nodes.model import Node, parse_address, parse_name

    node = Node(parse_name(name), parse_address(address), parse_platforms(platform or []), slots, image)
    if bool(image) != (node.address.scheme == "kubernetes"):
        raise InputError("--image is for kubernetes:// nodes, and they need one", hint="--image HOST/buildah:TAG")
    if any(other.name == node.name for other in inventory.load()):
        raise InputError(f"there is a node {name} already", hint=f"polyarch node rm {name}")
    answer = finish(ask(node, fresh=True))
    _demand([answer])
    inventory.add(node)
    _show([answer], json)


@app.command("ls")
def list_(json: Json = False) -> None:
    """List the nodes, without asking them."""
    from polyarch.nodes import inventory

    nodes = inventory.load()
    if json:
        print_json([node.as_dict() for node in nodes])
        return
    rows = [(n.name, str(n.address), ", ".join(map(str, n.platforms)) or "its own", str(n.slots)) for n in nodes]
    table(("NAME", "ADDRESS", "PLATFORMS", "SLOTS"), rows)


@app.command("rm")
def remove(name: Name) -> None:
    """Forget a node; what it keeps for its next build stays in its folder."""
    from polyarch.nodes import inventory
    from polyarch.nodes.model import DEFAULT_FOLDER

    node = inventory.find(name)
    inventory.remove(name)
    say(f"forgotten; its files are in {node.address.folder or DEFAULT_FOLDER} there")


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="All when left out.")] = "", json: Json = False
) -> None:
    """Ask nodes what they can do, and say what is missing and how to mend it (exit 4)."""
    from polyarch.nodes import inventory
    from polyarch.nodes.ask import ask_all

    nodes = [inventory.find(name)] if name else inventory.load()
    answers = finish(ask_all(nodes, fresh=True))
    _show(answers, json)
    _demand(answers)


def _show(answers: list[Answer] | tuple[Answer, ...], json: bool) -> None:
    if json:
        print_json([_plain(answer) for answer in answers])
        return
    head = ("NAME", "PLATFORMS", "MACHINE", "ENGINE", "ISOLATION", "FREE", "BUILDS", "SLOTS")
    table(head, [_row(answer) for answer in answers])


def _row(answer: Answer) -> tuple[str, ...]:
    found = answer.abilities
    if found is None:
        return answer.node.name, "-", "-", "-", "-", "-", "-", str(answer.node.slots)
    versions = dict(found.versions)
    return (
        answer.node.name,
        ", ".join(map(str, answer.platforms)) or "-",
        found.machine,
        f"{found.engine} {versions.get(found.engine, '')}".strip() or "-",
        found.isolation or "-",
        f"{found.free / 2**30:.0f} GiB" if found.free else "-",
        str(found.busy),
        str(answer.node.slots),
    )


def _plain(answer: Answer) -> dict[str, Any]:
    found = answer.abilities
    plain = answer.node.as_dict() | {"reached": found is not None, "problem": answer.problem, "hint": answer.hint}
    if found is None:
        return plain
    return plain | {
        "platforms": [str(platform) for platform in answer.platforms],
        "machine": found.machine,
        "engine": found.engine,
        "versions": dict(found.versions),
        "isolation": found.isolation,
        "executes": [str(platform) for platform in found.executes],
        "free": found.free,
        "builds": found.busy,
        "faults": [{"what": fault.what, "fix": fault.fix} for fault in found.faults],
    }


def _demand(answers: list[Answer] | tuple[Answer, ...]) -> None:
    """Raise for what is wrong with nodes: all of it, each with what mends it."""
    from polyarch.errors import NodeError

    wrong = [(a.node.name, a.why, a.hint) for a in answers if a.abilities is None]
    wrong += [(a.node.name, f.what, f.fix) for a in answers if a.abilities for f in a.abilities.faults]
    if not wrong:
        return
    if len(wrong) == 1:
        name, what, fix = wrong[0]
        raise NodeError(what if name in what else f"node {name}: {what}", hint=fix)
    detail = "\n".join(f"{name}: {what} ({fix})" for name, what, fix in wrong)
    names = ", ".join(dict.fromkeys(name for name, _, _ in wrong))
    raise NodeError(f"{names}: not fit to build", detail=detail)
