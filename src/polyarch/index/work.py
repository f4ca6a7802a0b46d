"""The verbs: each gathers, changes, proves, and only then gives the result its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from polyarch.errors import InputError
from polyarch.index import edit
from polyarch.index.stock import Staged, Stock
from polyarch.index.target import Target, parse_target
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Document, Index, PlatformField, document, parse_config
from polyarch.oci.source import Source
from polyarch.registry.find import open_image
from polyarch.report import Sink
from polyarch.verify.gate import prove_source

_DEEPEST = 10

Change = Callable[[Index, tuple[Descriptor, ...]], Index]


@dataclass(frozen=True, slots=True)
class Shop:
    """What all verbs work with: polyarch's store, where progress goes, and whether registries must prove who they are.

    Every verb raises `InputError`, `RegistryError`, and `ProofError` when the result would not be what it says; what
    the target's name pointed to stands then.
    """

    store: Layout
    show: Sink
    tls_verify: bool = True

    def target(self, name: str) -> Target:
        """The target of that name."""
        return parse_target(name, self.store, self.show, tls_verify=self.tls_verify)

    def open(self, stack: ExitStack, reference: str) -> Source:
        """The image of that name, until the stack unwinds."""
        return stack.enter_context(open_image(self.store, reference, tls_verify=self.tls_verify))


def create(shop: Shop, name: str, references: Sequence[str]) -> Document:
    """A new index of all images of the references; what had the name loses it."""
    target = shop.target(name)
    with ExitStack() as stack:
        sources = [shop.open(stack, reference) for reference in references]
        stock = Stock(target.staging, sources, shop.show)
        made = document(edit.create(_entries_of(stock, sources)))
        finish(stock, made, target, shop.show)
    return made


def change(shop: Shop, name: str, references: Sequence[str], how: Change) -> Document:
    """The index under a name, changed by `how`, which is also given the entries of the references' images."""
    target = shop.target(name)
    with ExitStack() as stack:
        current = stack.enter_context(target.current())
        sources = [shop.open(stack, reference) for reference in references]
        stock = Stock(target.staging, (current, *sources), shop.show)
        before = current.top()
        made = document(how(_index_of(stock, before), _entries_of(stock, sources)))
        finish(stock, made, target, shop.show, before.digest)
    return made


def copy(shop: Shop, reference: str, name: str) -> Document:
    """An image as it is, byte for byte, with all platforms and attestations, under another name or place."""
    target = shop.target(name)
    with ExitStack() as stack:
        source = shop.open(stack, reference)
        found = source.top()
        finish(Stock(target.staging, [source], shop.show), found, target, shop.show)
    return found


def finish(stock: Stock, made: Document, target: Target, show: Sink, before: str = "") -> None:
    """Prove a new document, then publish it."""
    prove_source(Staged(stock, made, target.name), show)
    target.publish(stock, made, before)


def entries(stock: Stock, top: Document, depth: int = 0) -> Iterator[Descriptor]:
    """The entries that an image brings into an index: its own, those of indexes within it, or itself.

    Images without a platform get the one of their config. Raises `InputError` for what cannot be read.
    """
    if depth > _DEEPEST:
        raise InputError(f"indexes nested more than {_DEEPEST} deep")
    if not isinstance(top.value, Index):
        stock.keep(top)
        yield _with_platform(stock, top, top.descriptor)
        return
    for entry in top.value.manifests:
        inner = stock.document(entry)
        if isinstance(inner.value, Index):
            yield from entries(stock, inner, depth + 1)
        elif entry.platform is None and not entry.is_attestation:
            yield _with_platform(stock, inner, entry)
        else:
            yield entry


def _entries_of(stock: Stock, sources: Sequence[Source]) -> tuple[Descriptor, ...]:
    """The entries of several images; the same one twice is one."""
    found = [entry for source in sources for entry in entries(stock, source.top())]
    return tuple(entry for number, entry in enumerate(found) if entry not in found[:number])


def _index_of(stock: Stock, top: Document) -> Index:
    """What is under a name, as a flat index; a plain manifest becomes an index of one image."""
    flat = tuple(entries(stock, top))
    if isinstance(top.value, Index):
        return top.value.model_copy(update={"manifests": flat, "media_type": top.media_type})
    return edit.create(flat)


def _with_platform(stock: Stock, image: Document, entry: Descriptor) -> Descriptor:
    if isinstance(image.value, Index) or image.value.artifact_type or entry.artifact_type:
        return entry
    config = parse_config(stock.fetch(image.value.config), f"the config of {entry.digest}")
    stated = {**(config.model_extra or {}), "os": config.os, "architecture": config.architecture}
    stated |= {"variant": config.variant} if config.variant else {}
    members = ("os", "architecture", "variant", "os.version", "os.features")
    field = PlatformField.model_validate({name: stated[name] for name in members if name in stated})
    return entry.model_copy(update={"platform": field})
