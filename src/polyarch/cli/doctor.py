"""`polyarch doctor`: what this machine can build, and the command that mends what it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, print_json, table

if TYPE_CHECKING:
    from polyarch.facts.model import Facts


def doctor(
    json: Json = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="Probe again, whatever is cached.")] = False,
) -> None:
    """Show what this machine can build and run, and how to mend what is missing."""
    from polyarch.facts.gather import gather

    facts = gather(refresh)
    if json:
        print_json(facts.as_dict())
    else:
        _show(facts)


def _show(facts: Facts) -> None:
    print(f"{facts.platform}, Linux {facts.kernel}, {facts.distribution}, cgroups {facts.cgroups}, uid {facts.uid}")
    print()
    table(("TOOL", "VERSION", "PATH"), [(t.name, t.version or "-", str(t.path or t.fix)) for t in facts.tools])
    print()
    print(f"isolation       {facts.isolation or 'none works'}")
    print(f"storage driver  {facts.storage_driver or 'none works'}")
    own = "yes" if facts.namespace.own_binfmt else "no"
    print(f"own binfmt      {own} (handlers in a user namespace, no privilege needed)")
    host = ", ".join(handler.name for handler in facts.handlers) or "none"
    print(f"host binfmt     {host}")
    print()
    _platforms(facts)
    for problem in facts.problems:
        print()
        print(f"problem: {problem.what}")
        print(f"  why:  {problem.why}")
        print(f"  mend: {problem.fix}")


def _platforms(facts: Facts) -> None:
    from polyarch.arch import ARCHES

    rows = []
    for platform in ARCHES:
        execution = facts.execution(platform)
        compiler = facts.compiler(platform)
        why = execution.why if execution.way != "none" else f"{execution.why}; mend: {execution.fix}"
        rows.append((str(platform), execution.way, compiler.path.name if compiler else "-", why))
    table(("PLATFORM", "EXECUTED", "COMPILER", "HOW"), rows)
