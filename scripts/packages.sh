#!/bin/sh
# Installs the Debian packages that polyarch and its tests use, those that are missing only. Debian 12 and 13; needs root or sudo.
set -eu
packages="python3-venv buildah skopeo podman crun runc uidmap qemu-user-static mmdebstrap arch-test docker-registry
mariadb-server openssh-server iproute2 etcd-server fuse-overlayfs debian-archive-keyring util-linux openssl apache2-utils patch gcc libc6-dev"
missing=""
for package in $packages; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
as_root=""
[ "$(id -u)" = 0 ] || as_root=sudo
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
# A service that a package would start is of no use here, and may not be able to start.
printf '#!/bin/sh\nexit 101\n' >/tmp/policy-rc.d.$$
if [ ! -e /usr/sbin/policy-rc.d ]; then
    $as_root install -m 755 /tmp/policy-rc.d.$$ /usr/sbin/policy-rc.d
    trap '$as_root rm -f /usr/sbin/policy-rc.d' EXIT
fi
rm -f /tmp/policy-rc.d.$$
# shellcheck disable=SC2086  # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
