"""A node's engine, told the same as the one here: images and files go over and come back by digest."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO

from polyarch import run
from polyarch.arch import Platform
from polyarch.build.adopt import adopt, known_layer, read_config
from polyarch.build.engine import BuildArgs, base_name, build_options, stage_name
from polyarch.dockerfile.lower import CONTEXT
from polyarch.emulation.dispatcher.counts import Counts
from polyarch.errors import BuildError, InputError
from polyarch.nodes import tree
from polyarch.nodes.session import Session
from polyarch.oci import layers
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Manifest, parse_config, parse_document
from polyarch.toolchain import context as toolchain

_TAIL = 40  # lines of a failed build that its error repeats


class RemoteEngine:
    """buildah or podman of one node, in one session; raises `NodeError` where the node, not the build, fails."""

    def __init__(self, session: Session, layout: Layout) -> None:
        self._session = session
        self.layout = layout
        self._context = ""

    async def import_bases(self, digests: Iterable[str]) -> None:
        """Bring what the node's storage lacks of these manifests there, one after another."""
        for digest in dict.fromkeys(digests):
            if not await self._session.holds(base_name(digest)):
                await self._import(digest, f"base-{secrets.token_hex(8)}")

    async def stages(self, keys: Iterable[str]) -> dict[str, str]:
        """Those of these stages that the node's storage holds, by key, and the ids of their images."""
        here = [key for key in dict.fromkeys(keys) if await self._session.holds(stage_name(key))]
        return {key: await self._id(stage_name(key)) for key in here}

    async def build(self, wanted: BuildArgs, on_line: Callable[[str], None], log: IO[str]) -> str:
        """Run the build there; the image gets the name `wanted.tag` in the node's storage. Returns its id.

        Raises `BuildError` with the last lines that the build printed.
        """
        name = f"build-{secrets.token_hex(4)}"
        generated = {CONTEXT: wanted.files, toolchain.NAME: wanted.toolchain}
        folders = {context: f"{name}/{context}" for context, files in generated.items() if files}
        trees = {folder: tree.of_files(generated[context]) for context, folder in folders.items()}
        if wanted.ssh:
            hint = f"build {wanted.platform} here: --strategy {wanted.platform}=emulate"
            raise InputError("--ssh: an agent is not lent to nodes", hint=hint)
        folders |= {context: f"{name}/{context}" for context, _ in wanted.contexts}
        for context, folder in wanted.contexts:
            trees[folders[context]] = await asyncio.to_thread(tree.of_context, folder, None)
        text = tree.of_memory({"Dockerfile": wanted.dockerfile.encode(), "nothing": b""})
        await self._session.send({name: text} | trees)
        context = await self._context_for(wanted, log)
        there = f"{self._session.work}/{name}"
        contexts = {context: f"{self._session.work}/{folder}" for context, folder in folders.items()}
        options = build_options(wanted, f"{there}/Dockerfile", contexts)
        options += ["--isolation", self._session.abilities.isolation]
        options += ["--ignorefile", f"{there}/nothing"]  # what is ignored was not sent
        for secret in wanted.secrets:
            options += ["--secret", await self._secret(secret)]
        await self._run(self._session.engine("build", *options, context), on_line, log)
        return await self._id(wanted.tag)

    async def export(self, image: str, platform: Platform, *, docker_format: bool) -> Descriptor:
        """Fetch an image into the layout: only layers whose content the layout does not know.

        Returns the manifest's descriptor, media types of OCI or of Docker as asked.
        """
        there = f"{self._session.work}/image-{secrets.token_hex(4)}"
        await self._session.check(["mkdir", "-p", there])
        options = ["--quiet", "--format", "v2s2" if docker_format else "oci"]
        if self._session.abilities.engine == "buildah":
            options += ["--disable-compression"]  # podman compresses for a folder only when it is told to
        await self._session.check(self._session.engine("push", *options, image, f"dir:{there}"))
        with self.layout.workroom() as staging:
            await self._session.fetch(f"{there}/manifest.json", staging / "manifest.json")
            manifest = parse_document((staging / "manifest.json").read_bytes(), "", there).value
            if not isinstance(manifest, Manifest):
                raise BuildError(f"{self._session.node.name} gave out an index, not one platform's image")
            await self._blob(there, manifest.config.digest, staging)
            _, config = read_config(staging)
            for diff_id in config.rootfs.diff_ids:
                if known_layer(self.layout, diff_id) is None:
                    await self._blob(there, diff_id, staging)
            return await asyncio.to_thread(adopt, self.layout, staging, platform, docker_format=docker_format)

    def dispatched(self) -> dict[Platform, Counts]:
        """Nothing: a node runs its programs by itself."""
        return {}

    def head(self, _image: str, _paths: Sequence[str], _size: int) -> bytes:
        """Nothing: images on a node are not looked into."""
        return b""

    async def _context_for(self, wanted: BuildArgs, log: IO[str]) -> str:
        """Where the build context is there; a session is one build's, so it is sent once for all stages."""
        if not self._context:
            entries = await asyncio.to_thread(tree.of_context, wanted.context, wanted.ignore_file)
            sent = await self._session.send({"context": entries})
            log.write(f"{sent} bytes of the context were new to node {self._session.node.name}\n")
            self._context = f"{self._session.work}/context"
        return self._context

    async def _import(self, digest: str, folder: str) -> None:
        raw = self.layout.read(digest)
        document = parse_document(raw, "", digest)
        if not isinstance(document.value, Manifest):
            raise BuildError(f"{digest} is an index, not one platform's image")
        blobs = (document.value.config, *document.value.layers)
        await self._session.send({folder: tree.of_image(self.layout, document.descriptor, blobs)})
        await self._session.load(folder, base_name(digest))
        config = parse_config(self.layout.read(document.value.config.digest), digest)
        layers.remember_image(self.layout, document.value, config)

    async def _id(self, image: str) -> str:
        said = await self._session.check(self._session.engine("images", "--quiet", "--no-trunc", image))
        return said.decode().split()[0].removeprefix("sha256:")

    async def _secret(self, option: str) -> str:
        """The option with the file's place there; the secret itself goes over standard input into memory."""
        fields = dict(field.partition("=")[::2] for field in option.split(","))
        try:
            data = await asyncio.to_thread(Path(fields["src"]).read_bytes)
        except OSError as error:
            raise InputError(f"--secret {fields['id']} cannot be read", detail=str(error)) from error
        fields["src"] = await self._session.put_secret(secrets.token_hex(8), data)
        return ",".join(f"{name}={value}" for name, value in fields.items())

    async def _run(self, argv: Sequence[str], on_line: Callable[[str], None], log: IO[str]) -> None:
        tail: deque[str] = deque(maxlen=_TAIL)

        def take(line: str) -> None:
            tail.append(line)
            log.write(line + "\n")
            log.flush()
            on_line(line)

        ended = await self._session.build(argv, take)
        if ended.code:
            raise run.failed([self._session.abilities.engine, "build"], ended.code, "\n".join(tail) or ended.stderr)

    async def _blob(self, there: str, digest: str, staging: Path) -> None:
        name = layers.digest_part(digest)
        await self._session.fetch(f"{there}/{name}", staging / name)
