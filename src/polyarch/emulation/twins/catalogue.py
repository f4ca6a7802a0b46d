"""Which tools may have a native twin, and what keeps each honest.

A tool is here only if its output is the same on every processor. Not here, and why:

- `make` (MAKE_HOST), `bash` (MACHTYPE, printf): the architecture is compiled in
- `uname`, `arch`, `getconf`, `lscpu`, `ldd`, `ldconfig`, `setarch`: that is what they are about
- `printf`, `seq`, `numfmt`: long double has 64 bits of precision on amd64 and 113 on arm64 and s390x
- `od`: byte order; `who`, `users`, `pinky`: utmp; `stdbuf`: preloads a library; `chroot`: leaves the table behind
- Python, and perl but for known scripts on perl-base alone: they load extensions, and say the machine's name
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from polyarch.arch import Arch

# Platforms with glibc's usual numbers of signals (mips has others) and 64 bits as the hosts have them.
ACCELERATED = ("arm64", "ppc64le", "riscv64", "s390x")
GCC = "{gcc}"  # stands for gcc's major version


@dataclass(frozen=True, slots=True)
class Tool:
    """One file of a package, as it is on foreign roots, and how its twin is called.

    `twin` is the native file when it is called otherwise (a cross compiler). Arguments: `front` and `back` are added,
    `exchange` replaces one; with one of `refuse` (`x*`: any that begins with x) or a variable of `refuse_env`, the
    tool is emulated after all. `files` are loaded by the twin at run time. `stamp` is the name of the architecture
    that is compiled in (`stamp.py`). With `scripts` the first argument that is no option must be one of them, and with
    one of `refuse_paths` in the root the tool is emulated; shared objects below `modules` are shown to the twin beside
    `Polyarch.pm`. {triplet}, {debian}, {gcc} are filled in, {host} is the native triplet.
    """

    path: str
    package: str
    twin: str = ""
    front: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    exchange: tuple[tuple[str, str], ...] = ()
    refuse: tuple[str, ...] = ()
    refuse_env: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    stamp: str = ""
    scripts: tuple[str, ...] = ()
    refuse_paths: tuple[str, ...] = ()
    modules: str = ""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.rpartition("/")[2]

    def filled(self, arch: Arch, host: Arch, gcc: str = "") -> Tool:
        """The tool on roots of one architecture."""
        names = {"{triplet}": arch.triplet, "{debian}": arch.debian, "{host}": host.triplet, GCC: gcc}

        def fill(text: str) -> str:
            for name, value in names.items():
                text = text.replace(name, value)
            return text

        return replace(
            self,
            path=fill(self.path),
            package=fill(self.package),
            twin=fill(self.twin),
            front=tuple(map(fill, self.front)),
            back=tuple(map(fill, self.back)),
            exchange=tuple((fill(old), fill(new)) for old, new in self.exchange),
            files=tuple(map(fill, self.files)),
            stamp=fill(self.stamp),
            refuse_paths=tuple(map(fill, self.refuse_paths)),
            modules=fill(self.modules),
        )


def _tools(package: str, names: str, folder: str = "usr/bin", *, refuse: tuple[str, ...] = ()) -> tuple[Tool, ...]:
    return tuple(Tool(f"{folder}/{name}", package, refuse=refuse) for name in names.split())


_COREUTILS = (
    "[ b2sum base32 base64 basename basenc cat chgrp chmod chown cksum comm cp csplit cut date dd df dir"
    " dircolors dirname du echo env expand expr factor false fmt fold groups head hostid id install join link"
    " ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc paste pathchk pr printenv ptx pwd"
    " readlink realpath rm rmdir sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep split stat"
    " sum sync tac tail tee test timeout touch tr true truncate tsort tty unexpand uniq unlink vdir wc whoami"
    " yes"
)
# These tell apt the architecture that it would take from its own program file; `--version` prints that one.
_APT_OPTIONS = ("-o", "APT::Architecture={debian}")
_APT_REFUSE = ("--version", "-v")

# The fields of its messages come out of a hash table, whose order goes by the bytes of numbers (found by `prove`).
_BY_BYTE_ORDER = ("mirror",)

BASE: tuple[Tool, ...] = (
    *_tools("dash", "dash"),
    *_tools("coreutils", _COREUTILS),
    *_tools("coreutils", "sort", refuse=("-g*", "--general-numeric-sort", "--sort=g*")),  # compares long doubles
    *_tools("sed", "sed"),
    *_tools("grep", "grep"),
    *_tools("mawk", "mawk"),
    *_tools("tar", "tar"),
    *_tools("gzip", "gzip"),
    *_tools("findutils", "find xargs"),
    *_tools("diffutils", "cmp diff diff3 sdiff"),
    *_tools("debianutils", "ischroot run-parts tempfile"),
    *_tools("util-linux", "getopt flock"),
    *_tools("dpkg", "dpkg-deb dpkg-split update-alternatives"),
    *(
        replace(tool, stamp="{debian}")
        for tool in _tools("dpkg", "dpkg dpkg-query dpkg-divert dpkg-trigger", refuse=("--version",))
    ),
    *_tools("dpkg", "dpkg-statoverride", refuse=("--version",)),
    *(
        replace(tool, front=_APT_OPTIONS, refuse=_APT_REFUSE)
        for tool in _tools("apt", "apt apt-get apt-cache apt-mark")
    ),
    *(replace(tool, front=_APT_OPTIONS, refuse=_APT_REFUSE) for tool in _tools("apt", "apt-config")),
    *_tools("apt", "copy file gpgv http mirror rred sqv store", "usr/lib/apt/methods"),
    *_tools("apt", "apt-helper", "usr/lib/apt", refuse=_APT_REFUSE),
    *(
        replace(tool, front=_APT_OPTIONS, refuse=_APT_REFUSE)
        for tool in _tools("apt", "apt-extracttemplates", "usr/lib/apt")
    ),
    # What configures packages: of these scripts it is known that they ask for nothing that is the processor's.
    Tool(
        "usr/bin/perl",
        "perl-base",
        front=("-I{libraries}/perl", "-MPolyarch={host},{triplet}"),
        refuse=("-M*", "-m*"),
        refuse_env=("PERL5LIB", "PERL5OPT", "PERL_HASH_SEED"),
        scripts=(
            "/usr/share/debconf/frontend",
            *(f"/usr/sbin/{name}" for name in ("dpkg-preconfigure", "pam-auth-update", "update-rc.d")),
            *(f"/usr/bin/{name}" for name in ("deb-systemd-helper", "deb-systemd-invoke", "debconf-set-selections")),
        ),
        # extensions that perl-base does not bring
        refuse_paths=(
            "/usr/lib/{triplet}/perl5",
            "/usr/lib/{triplet}/perl",
            "/usr/local/lib/{triplet}/perl",
            "/etc/perl/sitecustomize.pl",
        ),
        modules="usr/lib/{host}/perl-base",
    ),
    *_tools("sqv", "sqv"),
    *_tools("gpgv", "gpgv"),
)

_LIBEXEC, _CROSS = "usr/libexec/gcc/{triplet}/{gcc}", "usr/libexec/gcc-cross/{triplet}/{gcc}"
_PLUGIN = "liblto_plugin.so"
# A cross compiler looks for some headers where cross packages put them: it is told the native one's folders, in its
# order. What comes after these, /usr/include/TRIPLET and /usr/include, both have. Not -nostdinc: that would also leave
# out stdc-predef.h, which glibc has included before the first line.
_HEADERS = ("usr/lib/gcc/{triplet}/{gcc}/include", "usr/local/include")
_CXX_HEADERS = ("usr/include/c++/{gcc}", "usr/include/{triplet}/c++/{gcc}", "usr/include/c++/{gcc}/backward", *_HEADERS)
_CC1_REFUSE = (
    "-nostdinc*", "-iprefix", "-isysroot", "-v", "--help*", "--version", "-version", "-fplugin*", "-march=native",
    "-mcpu=native", "-mtune=native", "-imultilib", "@*", "-fpch*",
    "-finput-charset*", "-fexec-charset*", "-fwide-exec-charset*", "-print*", "-fself-test*",
)  # fmt: skip
_CC1_ENV = ("C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "GCC_EXEC_PREFIX")


def _system(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part for folder in folders for part in ("-isystem", f"/{folder}"))


COMPILERS: tuple[Tool, ...] = (
    Tool(
        f"{_LIBEXEC}/cc1",
        "cpp-{gcc}-{package}",
        f"{_CROSS}/cc1",
        back=_system(_HEADERS),
        refuse=_CC1_REFUSE,
        refuse_env=_CC1_ENV,
    ),
    Tool(
        f"{_LIBEXEC}/cc1plus",
        "g++-{gcc}-{package}",
        f"{_CROSS}/cc1plus",
        back=_system(_CXX_HEADERS),
        refuse=(*_CC1_REFUSE, "-E"),  # -isystem folders have another flag in line markers, which only -E shows
        refuse_env=_CC1_ENV,
    ),
    Tool(f"{_LIBEXEC}/collect2", "gcc-{gcc}-{package}", f"{_CROSS}/collect2", refuse=("-v", "--version", "--help")),
    Tool("usr/bin/{triplet}-as", "binutils-{package}", refuse=("--version", "-v", "--help", "@*")),
    Tool(
        "usr/bin/{triplet}-ld.bfd",
        "binutils-{package}",
        exchange=((f"/{_LIBEXEC}/{_PLUGIN}", f"{_CROSS}/{_PLUGIN}"),),
        refuse=("--version", "-v", "-V", "--help", "--verbose", "@*"),
        files=(f"{_CROSS}/{_PLUGIN}",),
    ),
)


def base_tools(arch: Arch, host: Arch) -> tuple[Tool, ...]:
    """The tools of a base; none for an architecture on which they could behave otherwise."""
    tools = (tool.filled(arch, host) for tool in BASE if arch.architecture in ACCELERATED)
    return tuple(tool for tool in tools if arch.byteorder == host.byteorder or tool.name not in _BY_BYTE_ORDER)


def compiler_tools(arch: Arch, gcc: str) -> tuple[Tool, ...]:
    """The tools of the compiler pack for gcc of this major version."""
    package = arch.triplet.replace("_", "-")
    found = (replace(tool, package=tool.package.replace("{package}", package)) for tool in COMPILERS)
    return tuple(tool.filled(arch, arch, gcc) for tool in found) if arch.architecture in ACCELERATED else ()


def accelerated(arch: Arch) -> bool:
    """Whether there may be twins for programs of this architecture."""
    return arch.architecture in ACCELERATED
