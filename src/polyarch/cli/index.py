"""`polyarch index`: make, change, copy and mend indexes without a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from polyarch.cli.common import Json, TlsVerify, print_json, sink, store, table
from polyarch.errors import InputError

if TYPE_CHECKING:
    from polyarch.index.mend import Change
    from polyarch.index.work import Shop
    from polyarch.oci.model import Document

app = typer.Typer(name="index", help="Make, change, copy and mend indexes without a daemon.", no_args_is_help=True)

_TARGET = "A tag of polyarch's store, oci:DIR:TAG or docker://NAME."
_SOURCE = "docker://, oci:DIR, … or a name in the store."
Name = Annotated[str, typer.Argument(metavar="NAME", help=_TARGET)]
References = Annotated[list[str], typer.Argument(metavar="REF...", help=_SOURCE)]


@app.command()
def create(name: Name, references: References, tls_verify: TlsVerify = True, json: Json = False) -> None:
    """Make an index of all images of the references."""
    from polyarch.index import work

    _tell(name, work.create(_shop(json, tls_verify), name, references), json)


@app.command()
def add(name: Name, references: References, tls_verify: TlsVerify = True, json: Json = False) -> None:
    """Add the images of the references; refuses platforms that are there already."""
    from polyarch.index import edit, work

    _tell(name, work.change(_shop(json, tls_verify), name, references, edit.add), json)


@app.command()
def replace(name: Name, references: References, tls_verify: TlsVerify = True, json: Json = False) -> None:
    """Put the images of the references in place of those of their platforms, or add them where there are none."""
    from polyarch.index import edit, work

    _tell(name, work.change(_shop(json, tls_verify), name, references, edit.replace), json)


@app.command()
def remove(
    name: Name,
    platforms: Annotated[list[str], typer.Argument(metavar="PLATFORM...", help="linux/arm64, or sha256: and digits.")],
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Remove the images of the platforms, and their attestations."""
    from polyarch.index import edit, work

    made = work.change(_shop(json, tls_verify), name, (), lambda index, _: edit.remove(index, platforms))
    _tell(name, made, json)


@app.command()
def annotate(
    name: Name,
    annotations: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="No value removes the annotation.")],
    platform: Annotated[str, typer.Option("--platform", help="Annotate the entry of this platform.")] = "",
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Set annotations of the index, or of one of its entries."""
    from polyarch.arch import parse_platform
    from polyarch.index import edit, work

    changes = dict(map(_pair, annotations))
    chosen = parse_platform(platform) if platform else None
    made = work.change(_shop(json, tls_verify), name, (), lambda index, _: edit.annotate(index, changes, chosen))
    _tell(name, made, json)


@app.command()
def copy(
    reference: Annotated[str, typer.Argument(metavar="SRC", help=_SOURCE)],
    name: Annotated[str, typer.Argument(metavar="DEST", help=_TARGET)],
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Copy an image whole, with all platforms and attestations; only blobs that DEST lacks are moved."""
    from polyarch.index import work

    _tell(name, work.copy(_shop(json, tls_verify), reference, name), json)


@app.command()
def repair(
    reference: Annotated[str, typer.Argument(metavar="REF", help=_SOURCE)],
    name: Annotated[str, typer.Option("--tag", "-t", metavar="NEW", help=_TARGET)],
    tls_verify: TlsVerify = True,
    json: Json = False,
) -> None:
    """Mend media types, sizes, platforms and duplicates by what the bytes are; exit 3 when that is not all."""
    from dataclasses import asdict

    from polyarch.index.repair import repair as mend

    done = mend(_shop(json, tls_verify), reference, name)
    if json:
        changes = [asdict(change) for change in done.changes]
        print_json({"name": name, "digest": done.document.digest, "tagged": not done.problem, "changes": changes})
    else:
        _show(done.changes)
    if done.problem is not None:
        raise done.problem
    if not json:
        print(done.document.digest)


def _shop(json: bool, tls_verify: bool) -> Shop:
    import signal

    from polyarch.index.work import Shop

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: nothing half-made is left
    return Shop(store(), sink(json), tls_verify)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"an annotation is KEY=VALUE, not {text!r}", hint="KEY= removes it")
    return key, value


def _show(changes: tuple[Change, ...]) -> None:
    if changes:
        table(("WHERE", "WHAT", "WAS", "IS"), [(c.where, c.what, c.before, c.after) for c in changes])
    else:
        print("nothing to mend")


def _tell(name: str, made: Document, json: bool) -> None:
    if json:
        print_json({"name": name, "digest": made.digest})
    else:
        print(made.digest)
