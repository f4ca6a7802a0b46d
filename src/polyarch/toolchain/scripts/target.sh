# Read by the cross-* scripts: which platform this stage makes things for, and how build tools call it.
die() {
    echo "${0##*/}: $*" >&2
    exit 2
}

[ -n "${TARGETPLATFORM:-}" ] || die "TARGETPLATFORM is not set: write ARG TARGETPLATFORM into this stage, above this RUN"
target=$share/$(echo "$TARGETPLATFORM" | tr / -)
[ -r "$target/env" ] || die "no toolchain for $TARGETPLATFORM; there are: $(cd "$share" && echo linux-*)"
set -a
. "$target/env"
set +a
# Whether the target is the machine that this runs on.
native=
[ "$(dpkg --print-architecture 2>/dev/null)" != "$DEB_HOST_ARCH" ] || native=yes
