"""buildah and skopeo inside polyarch's namespace: the only place that knows their command lines.

Images go in from the layout (a base, by digest) and come out to the layout (a build's result); in between buildah's own
storage keeps the steps. That storage is polyarch's own, so that it is only ever used from such a namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from polyarch import places, run
from polyarch.arch import Platform
from polyarch.build.adopt import adopt
from polyarch.dockerfile.lower import CONTEXT, GeneratedFile
from polyarch.emulation.dispatcher.counts import Counts
from polyarch.emulation.namespace import Namespace, namespace
from polyarch.errors import BuildError, HostError
from polyarch.facts.model import Facts
from polyarch.oci import layers
from polyarch.oci.layout import Layout
from polyarch.oci.model import Descriptor, Manifest, parse_config, parse_document
from polyarch.toolchain import context as toolchain

_IMAGE_ID = re.compile(r"^[0-9a-f]{64}$", re.MULTILINE)
BASE_NAME = "localhost/polyarch/base"
STAGE_NAME = "localhost/polyarch/stage"
_DIR_VERSION = "Directory Transport Version: 1.1\n"


@dataclass(frozen=True, slots=True)
class BuildArgs:
    """What one `buildah build` is told; `dockerfile` is text that names exact local images only."""

    dockerfile: str
    context: Path
    platform: Platform
    tag: str
    build_args: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    contexts: tuple[tuple[str, Path], ...] = ()
    ssh: tuple[str, ...] = ()
    files: tuple[GeneratedFile, ...] = ()
    toolchain: tuple[GeneratedFile, ...] = ()
    ignore_file: Path | None = None
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class Acceleration:
    """What makes a namespace accelerate: the dispatcher's table, and for every platform a handler that calls it."""

    table: Path
    registrations: tuple[bytes, ...]


class Builds(Protocol):
    """What building with an engine takes, here or on a node; `Engine` says what each does."""

    @property
    def layout(self) -> Layout: ...  # noqa: D102
    async def import_bases(self, digests: Iterable[str]) -> None: ...  # noqa: D102
    async def stages(self, keys: Iterable[str]) -> dict[str, str]: ...  # noqa: D102
    async def build(self, wanted: BuildArgs, on_line: Callable[[str], None], log: IO[str]) -> str: ...  # noqa: D102
    async def export(self, image: str, platform: Platform, *, docker_format: bool) -> Descriptor: ...  # noqa: D102
    def head(self, image: str, paths: Sequence[str], size: int, /) -> bytes: ...  # noqa: D102
    def dispatched(self) -> dict[Platform, Counts]: ...  # noqa: D102


class Engine:
    """buildah and skopeo in one live namespace, with one storage and one layout."""

    def __init__(self, namespace: Namespace, layout: Layout, isolation: str, driver: str) -> None:
        self._namespace = namespace
        self.layout = layout
        conf = namespace.write("storage.conf", _storage_conf(driver, f"{namespace.scratch}/run").encode())
        kind, _, runtime = isolation.partition("+")
        self._env = {
            "_CONTAINERS_USERNS_CONFIGURED": "done",  # buildah and skopeo must not unshare once more
            "BUILDAH_ISOLATION": kind,
            "CONTAINERS_STORAGE_CONF": str(conf),
            "TMPDIR": str(_temporary()),
        } | ({"BUILDAH_RUNTIME": runtime} if runtime else {})

    def base_names(self) -> frozenset[str]:
        """The digests (hexadecimal) of the bases that the storage holds."""
        return frozenset(self._tags(BASE_NAME))

    async def stages(self, keys: Iterable[str]) -> dict[str, str]:
        """Those of these stages that the storage holds, by key, and the ids of their images."""
        here = self._tags(STAGE_NAME)
        return {key: here[key] for key in keys if key in here}

    def clear_leftovers(self) -> None:
        """Remove the working containers that killed builds left; only when nobody else uses the storage."""
        run.capture(self._namespace.enter(["buildah", "rm", "--all"]), env=self._env, check=False)
        kept = ("!", "-name", "buildah-cache*")  # RUN --mount=type=cache
        find = ["find", str(_temporary()), "-mindepth", "1", "-maxdepth", "1", *kept, "-exec", "rm", "-rf", "{}", "+"]
        run.capture(self._namespace.enter(find), check=False)

    async def import_bases(self, digests: Iterable[str]) -> None:
        """Copy what the storage lacks of these manifests from the layout, side by side."""
        here = self.base_names()
        missing = [digest for digest in dict.fromkeys(digests) if layers.digest_part(digest) not in here]
        await asyncio.gather(*(self.import_base(digest) for digest in missing))

    async def import_base(self, digest: str) -> None:
        """Copy one platform's image from the layout into the storage, under `base_name(digest)` of its manifest."""
        with self.layout.workroom() as staging:
            raw = self.layout.read(digest)
            manifest = parse_document(raw, "", digest).value
            if not isinstance(manifest, Manifest):
                raise BuildError(f"{digest} is an index, not one platform's image")
            (staging / "manifest.json").write_bytes(raw)
            (staging / "version").write_text(_DIR_VERSION)
            for blob in (manifest.config, *manifest.layers):
                (staging / layers.digest_part(blob.digest)).hardlink_to(self.layout.blob_path(blob.digest))
            target = f"containers-storage:{base_name(digest)}"
            await self._run(["skopeo", "copy", "--quiet", f"dir:{staging}", target])
        config = parse_config(self.layout.read(manifest.config.digest), digest)
        layers.remember_image(self.layout, manifest, config)

    async def build(self, wanted: BuildArgs, on_line: Callable[[str], None], log: IO[str]) -> str:
        """Run `buildah build`; the image gets the name `wanted.tag` in the storage. Returns its id.

        Raises `BuildError` with the last lines that the build printed.
        """
        text = self._namespace.write(f"Dockerfile.{secrets.token_hex(4)}", wanted.dockerfile.encode())
        contexts = self._generated(CONTEXT, wanted.files) | self._generated(toolchain.NAME, wanted.toolchain)
        contexts |= {name: str(folder) for name, folder in wanted.contexts}
        options = build_options(wanted, str(text), contexts)
        options += _options("--secret", wanted.secrets)
        options += _options("--ssh", wanted.ssh)
        options += _options("--ignorefile", [str(wanted.ignore_file)] if wanted.ignore_file else [])
        # without --iidfile it prints the id of each step's image, which is where a failure is looked into
        done = await self._run(["buildah", "build", *options, str(wanted.context)], on_line, log)
        return str(_IMAGE_ID.findall(done.stdout)[-1])

    async def export(self, image: str, platform: Platform, *, docker_format: bool) -> Descriptor:
        """Copy an image from the storage into the layout; layers that the layout knows keep their blobs.

        Returns the manifest's descriptor, media types of OCI or of Docker as asked.
        """
        with self.layout.workroom() as staging:
            format_ = "v2s2" if docker_format else "oci"
            source = f"containers-storage:{image}"
            options = ["--quiet", "--dest-decompress", "--format", format_]
            await self._run(["skopeo", "copy", *options, source, f"dir:{staging}"])
            return await asyncio.to_thread(adopt, self.layout, staging, platform, docker_format=docker_format)

    async def run_once(self, digest: str, argv: Sequence[str], out: Path) -> None:
        """Run a command as root in a container on an imported manifest, with the folder `out` as /out.

        Raises `BuildError` with the end of what it said. The container is gone afterwards.
        """
        container, _ = self.start_container(digest)
        try:
            await self._run(["buildah", "run", "--user", "0", "--volume", f"{out}:/out", container, "--", *argv])
        finally:
            self.remove_container(container)

    def dispatched(self) -> dict[Platform, Counts]:
        """How many programs of each platform the dispatcher has started until now, natively and emulated."""
        return self._namespace.dispatched()

    def start_container(self, digest: str) -> tuple[str, Path]:
        """A working container on an imported manifest; returns its name and where its root is mounted inside."""
        argv = ["buildah", "from", "--pull=never", base_name(digest)]
        container = run.capture(self._namespace.enter(argv), env=self._env).stdout.strip()
        mounted = run.capture(self._namespace.enter(["buildah", "mount", container]), env=self._env)
        return container, Path(mounted.stdout.strip())

    def head(self, image: str, paths: Sequence[str], size: int) -> bytes:
        """The first bytes of the first of these files that an image of the storage has; empty if it has none.

        Paths are relative to the image's working directory.
        """
        start = ["buildah", "from", "--pull=never", image]
        container = run.capture(self._namespace.enter(start), env=self._env).stdout.strip()
        # A runtime's own processes would need the image's programs; od(1) of this machine needs its files only.
        script = (
            'root=$(buildah mount "$1"); work=$(buildah inspect -f "{{.OCIv1.Config.WorkingDir}}" "$1");'
            " size=$2; shift 2;"
            " for path; do case $path in /*) ;; *) path=$work/$path ;; esac;"
            ' [ ! -f "$root/$path" ] || { od -An -v -tx1 -N"$size" "$root/$path"; exit; }; done'
        )
        try:
            argv = ["sh", "-c", script, "sh", container, str(size), *paths]
            return bytes.fromhex(run.capture(self._namespace.enter(argv), env=self._env).stdout)
        finally:
            self.remove_container(container)

    def remove_container(self, container: str) -> None:
        """Remove a working container; one that is gone is no error."""
        run.capture(self._namespace.enter(["buildah", "rm", container]), env=self._env, check=False)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` where the containers' roots are mounted."""
        return self._namespace.enter(argv)

    def _tags(self, repository: str) -> dict[str, str]:
        """The tags of a name of the storage, and the ids of their images."""
        argv = self._namespace.enter(["buildah", "images", "--json", "--filter", f"reference={repository}"])
        listed = json.loads(run.capture(argv, env=self._env).stdout or "null") or []
        names = ((name.rpartition(":"), image["id"]) for image in listed for name in image.get("names") or ())
        return {tag: image for (name, _, tag), image in names if name == repository}

    def _generated(self, name: str, files: Sequence[GeneratedFile]) -> dict[str, str]:
        """Write files into an additional build context of that name; its folder, if there are any."""
        folder = f"context.{secrets.token_hex(4)}"
        for file in files:
            self._namespace.write(f"{folder}/{file.path}", file.content, file.mode)
        return {name: str(self._namespace.scratch / folder)} if files else {}

    async def _run(
        self, argv: Sequence[str], on_line: Callable[[str], None] = lambda _line: None, log: IO[str] | None = None
    ) -> run.Finished:
        return await run.stream(self._namespace.enter(argv), on_line, env=self._env, log=log)


@contextlib.contextmanager
def open_engine(
    layout: Layout, facts: Facts, platforms: Iterable[Platform], acceleration: Acceleration | None = None
) -> Iterator[Engine]:
    """An engine in a new namespace in which programs of `platforms` can be executed.

    Raises `HostError` when the kernel refuses the namespace, or no isolation or storage driver works here.
    """
    for what, found in (("isolation", facts.isolation), ("storage driver", facts.storage_driver)):
        if not found:
            raise HostError(f"no {what} of buildah works here", hint="polyarch doctor names what is missing")
    register = acceleration.registrations if acceleration else facts.registrations(platforms)
    table = acceleration.table if acceleration else None
    with storage_in_use() as alone, namespace(register, table) as inside:
        engine = Engine(inside, layout, facts.isolation, facts.storage_driver)
        if alone:
            engine.clear_leftovers()
            layout.clear_staging()
        yield engine


@contextlib.contextmanager
def storage_in_use() -> Iterator[bool]:
    """Hold the storage; yields whether nobody else does, so that what killed runs left behind may be removed."""
    places.home().mkdir(parents=True, exist_ok=True)
    with (places.home() / "storage.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except BlockingIOError:
            alone = False
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield alone


def base_name(digest: str) -> str:
    """What the storage calls a base with this manifest digest."""
    return f"{BASE_NAME}:{layers.digest_part(digest)}"


def stage_name(key: str) -> str:
    """What a storage calls the image of a stage with this key."""
    return f"{STAGE_NAME}:{key}"


def _storage_conf(driver: str, run_root: str) -> str:
    """containers-storage.conf(5); `fuse-overlayfs` is the overlay driver with a mount program."""
    fuse = run.need(driver) if driver == "fuse-overlayfs" else None
    storage = {"driver": "overlay" if fuse else driver, "graphroot": str(places.storage()), "runroot": run_root}
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in storage.items())
    overlay = f"[storage.options.overlay]\nmount_program = {json.dumps(str(fuse))}\n" if fuse else ""
    return f"[storage]\n{lines}{overlay}"


def _temporary() -> Path:
    path = places.home() / "tmp"
    path.mkdir(parents=True, exist_ok=True)
    return path.absolute()


def build_options(wanted: BuildArgs, dockerfile: str, contexts: Mapping[str, str]) -> list[str]:
    """What `buildah build` and `podman build` are told alike; all but files of this machine (secrets, ignore file).

    `contexts`: name -> folder of each additional build context.
    """
    options = ["--layers", "--network", "host", "--pull=never", "--file", dockerfile]
    options += ["--platform", str(wanted.platform), "--tag", wanted.tag]
    # in the OCI format buildah ignores SHELL and ONBUILD; `export` writes what was asked for
    options += ["--format", "docker"]
    options += _options("--build-arg", [f"{name}={value}" for name, value in wanted.build_args])
    options += _options("--build-context", [f"{name}={folder}" for name, folder in contexts.items()])
    return [*options, *(["--no-cache"] if wanted.no_cache else [])]


def _options(flag: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (flag, value)]
