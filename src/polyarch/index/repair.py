"""`repair`: an image whose labels contradict its bytes becomes one whose labels say what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from polyarch import places
from polyarch.errors import InputError, ProofError
from polyarch.index.mend import Change, Mended, Part, mend_index, mend_part
from polyarch.index.stock import Staged, Stock
from polyarch.index.work import Shop, finish
from polyarch.oci.model import Descriptor, Document, Index, document, parse_config
from polyarch.report import Event
from polyarch.verify.documents import DIGEST, same_digest
from polyarch.verify.facts import LayerFacts
from polyarch.verify.gate import LayerFiles
from polyarch.verify.prove import verify

_DEEPEST = 10
_MOST = 1000  # entries


@dataclass(frozen=True, slots=True)
class Repaired:
    """The new document, what is different of it, and what is still wrong; with a `problem` it was not tagged."""

    document: Document
    changes: tuple[Change, ...]
    problem: ProofError | None


def repair(shop: Shop, reference: str, name: str) -> Repaired:
    """Mend what can be mended of an image, under a new name; the image itself stays as it is.

    Raises `InputError` and `RegistryError`; that something cannot be mended is in the result.
    """
    target = shop.target(name)
    with ExitStack() as stack:
        source = shop.open(stack, reference)
        top = source.top()
        stock = Stock(target.staging, [source], shop.show)
        # Reading the layers once for the proof of the old image leaves the facts of all of them in the cache.
        cache = LayerFiles(places.cache() / "layers")
        shop.show(Event("start", "repair", f"reading {source.name}"))
        verify(Staged(stock, top, source.name), known=cache)
        made, changes = _mend(stock, top, cache)
        try:
            finish(stock, made, target, shop.show)
        except ProofError as error:
            problem = ProofError(
                f"not all can be mended, and {target.name} was not touched", detail=error.detail, hint=error.hint
            )
            return Repaired(made, changes, problem)
    return Repaired(made, changes, None)


def _mend(stock: Stock, top: Document, cache: LayerFiles) -> tuple[Document, tuple[Change, ...]]:
    """The new top document, with everything new that it names in the stock's layout."""
    parts = list(_parts(stock, top, top.descriptor, 0))
    mended = [mend_part(part, _facts(part, cache)) for part in parts]
    for part in mended:
        _keep(stock, part)
    changes = tuple(change for part in mended for change in part.changes)
    if not isinstance(top.value, Index):
        new = mended[0].new.document
        return new or top, tuple(change for change in changes if not change.where.endswith(" in the index"))
    index, more = mend_index(top.value, top.media_type, mended)
    flat = all(part.entry in top.value.manifests for part in parts)
    more += () if flat else (Change("index", "indexes within it", "nested", "one flat index"),)
    made = top.model_copy(update={"media_type": index.media_type}) if index == top.value else document(index)
    return made, (*changes, *more)


def _parts(stock: Stock, found: Document, entry: Descriptor, depth: int) -> Iterator[Part]:
    """The manifests below a document; of those that cannot be read only the entry."""
    if not isinstance(found.value, Index):
        yield Part(entry, found, _config(stock, found, entry))
        return
    if depth > _DEEPEST or len(found.value.manifests) > _MOST:
        raise InputError(f"{found.digest}: more than {_DEEPEST} indexes deep, or {_MOST} entries")
    for inner in found.value.manifests:
        document_ = _document(stock, inner)
        if document_ is None:
            yield Part(inner)
        else:
            yield from _parts(stock, document_, inner, depth + 1)


def _document(stock: Stock, entry: Descriptor) -> Document | None:
    """What an entry points to, if it is there and has that digest: damaged documents are not mended."""
    try:
        found = stock.document(entry) if DIGEST.fullmatch(entry.digest) else None
    except InputError:
        return None
    return found if found is not None and same_digest(found.raw, entry.digest) else None


def _config(stock: Stock, image: Document, entry: Descriptor) -> bytes | None:
    """The config of an image, if it is there, whole, and an image's."""
    value = image.value
    if isinstance(value, Index) or entry.is_attestation or entry.artifact_type or value.artifact_type:
        return None
    try:
        raw = stock.fetch(value.config) if DIGEST.fullmatch(value.config.digest) else b""
        images = bool(parse_config(raw, "config").rootfs.diff_ids)
    except InputError:
        return None
    return raw if images and same_digest(raw, value.config.digest) else None


def _facts(part: Part, cache: LayerFiles) -> Mapping[str, LayerFacts]:
    """What the proof knows of a manifest's layers; nothing of those that are missing or damaged."""
    if part.document is None or isinstance(part.document.value, Index):
        return {}
    wanted = [layer.digest for layer in part.document.value.layers if DIGEST.fullmatch(layer.digest)]
    kept = {digest: LayerFacts.from_json(cache.get(digest) or "") for digest in wanted}
    return {digest: facts for digest, facts in kept.items() if facts is not None and facts.digest == digest}


def _keep(stock: Stock, part: Mended) -> None:
    if part.new.config is not None and part.new.config != part.old.config:
        stock.layout.add(part.new.config)
    if part.new.document is not None and part.new.entry.digest != part.old.entry.digest:
        stock.keep(part.new.document)
