"""The texts that tell build tools of another platform: environment, CMake toolchain file, Meson cross file. Pure.

The compilers are Debian's cross packages, libraries are the target's own packages in their multiarch folders, so that
one root is the build machine's and the target's sysroot at once. Sources: cmake-toolchains(7), Meson's "Machine files",
Cargo's "Environment variables", `go help environment`, Debian's CrossBuilding notes on PKG_CONFIG_LIBDIR.
"""

from __future__ import annotations

from polyarch.arch import ARCHES, Arch, Platform
from polyarch.errors import InputError

SHARE = "/usr/local/share/polyarch"
_TOOLS = {
    "CC": "gcc", "CXX": "g++", "CPP": "cpp", "FC": "gfortran", "AR": "ar", "AS": "as", "LD": "ld", "NM": "nm",
    "OBJCOPY": "objcopy", "OBJDUMP": "objdump", "RANLIB": "ranlib", "READELF": "readelf", "STRIP": "strip",
}  # fmt: skip
_GOARM = {"v5": "5", "v6": "6", "v7": "7"}
# Debian's armhf, libraries and start-up files of its compiler included, is ARMv7.
_MISSING = {Platform("linux", "arm", "v6"): "Debian's armhf is ARMv7, and armel ARMv5: linux/arm/v7 or linux/arm/v5"}


def supported() -> tuple[Arch, ...]:
    """The architectures that the toolchain knows, in the table's order."""
    return tuple(arch for platform, arch in ARCHES.items() if platform not in _MISSING)


def arch_of(platform: Platform) -> Arch:
    """The row of a platform. Raises `InputError` for one that Debian's compilers do not serve."""
    if platform in _MISSING:
        raise InputError(f"no toolchain for {platform}", hint=_MISSING[platform])
    return ARCHES[platform]


def environment(arch: Arch) -> dict[str, str]:
    """The variables under which build tools compile for `arch`; no value needs quotes.

    CC alone would count for the build machine's own programs, too, where a build has such (Cargo's build scripts,
    generators): HOST_CC and CC_FOR_BUILD say what those are compiled with.
    """
    rust = arch.rust.upper().replace("-", "_")
    folder = f"{SHARE}/{arch.platform.slug}"
    values = {name: f"{arch.gnu_type}-{tool}" for name, tool in _TOOLS.items()}
    values |= {"HOST_CC": "cc", "HOST_CXX": "c++", "CC_FOR_BUILD": "cc"}
    values |= {"PKG_CONFIG_LIBDIR": ":".join(_pkg_config(arch)), "PKG_CONFIG_ALLOW_CROSS": "1"}
    values |= {"CMAKE_TOOLCHAIN_FILE": f"{folder}/toolchain.cmake", "MESON_CROSS_FILE": f"{folder}/meson.ini"}
    values |= {"GOOS": "linux", "GOARCH": arch.architecture}
    values |= {"GOARM": _GOARM[arch.variant]} if arch.variant in _GOARM else {}
    values |= {"CARGO_BUILD_TARGET": arch.rust, f"CARGO_TARGET_{rust}_LINKER": f"{arch.gnu_type}-gcc"}
    return values | {
        "DEB_HOST_ARCH": arch.debian,
        "DEB_HOST_GNU_TYPE": arch.gnu_type,
        "DEB_HOST_MULTIARCH": arch.triplet,
    }


def env_file(arch: Arch) -> str:
    """`NAME=value` lines."""
    return "".join(f"{name}={value}\n" for name, value in environment(arch).items())


def cmake_file(arch: Arch) -> str:
    """A CMake toolchain file: programs are looked for on the build machine, everything else for the target."""
    return f"""\
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR {arch.uname})
set(CMAKE_C_COMPILER {arch.gnu_type}-gcc)
set(CMAKE_CXX_COMPILER {arch.gnu_type}-g++)
set(CMAKE_Fortran_COMPILER {arch.gnu_type}-gfortran)
set(CMAKE_LIBRARY_ARCHITECTURE {arch.triplet})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(ENV{{PKG_CONFIG_LIBDIR}} "{":".join(_pkg_config(arch))}")
"""


def meson_file(arch: Arch) -> str:
    """A Meson cross file."""
    libraries = ", ".join(f"'{folder}'" for folder in _pkg_config(arch))
    return f"""\
[binaries]
c = '{arch.gnu_type}-gcc'
cpp = '{arch.gnu_type}-g++'
fortran = '{arch.gnu_type}-gfortran'
ar = '{arch.gnu_type}-ar'
strip = '{arch.gnu_type}-strip'
objcopy = '{arch.gnu_type}-objcopy'
rust = ['rustc', '--target', '{arch.rust}', '-C', 'linker={arch.gnu_type}-gcc']
pkg-config = 'pkg-config'
cmake = 'cmake'

[properties]
pkg_config_libdir = [{libraries}]

[host_machine]
system = 'linux'
cpu_family = '{arch.meson}'
cpu = '{arch.uname}'
endian = '{arch.byteorder}'
"""


def elf_file(arch: Arch) -> str:
    """Class and byte order, and machine, of the architecture's ELF files, as `od -tx1` prints them without blanks."""
    magic = arch.binfmt_magic
    return f"{magic[4:6].hex()} {magic[18:20].hex()}\n"


def stage(name: str = "build") -> str:
    """A stage of a Dockerfile that compiles with this toolchain."""
    return f"""\
FROM --platform=$BUILDPLATFORM debian:trixie AS {name}
# `polyarch build` brings this context. Elsewhere: polyarch toolchain write DIR, --build-context polyarch-toolchain=DIR
COPY --from=polyarch-toolchain / /
# All platforms share what stands above this line.
ARG TARGETPLATFORM
RUN cross-apt install gcc libc6-dev make
WORKDIR /src
COPY . .
RUN cross-env make && cross-verify ./program
"""


def _pkg_config(arch: Arch) -> tuple[str, ...]:
    return (
        f"/usr/local/lib/{arch.triplet}/pkgconfig",
        f"/usr/lib/{arch.triplet}/pkgconfig",
        "/usr/local/share/pkgconfig",
        "/usr/share/pkgconfig",
    )
