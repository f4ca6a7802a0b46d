# probe.sh FOLDER KEY PLATFORM: what this machine is and can do, as lines `WORD REST`; standard input is a tar of the smallest
# programs. What was tried under the same KEY (boot, versions) is not tried again.
root=$1
[ -n "$root" ] || root=$HOME/.cache/polyarch-node
PATH=$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH
umask 077

say() { printf '%s\n' "$*"; }
first() { printf '%s' "$1" | sed -n 1p; }

say machine "$(uname -m)"
for tool in tar cp timeout buildah podman; do
    command -v "$tool" >/dev/null 2>&1 || { say missing "$tool"; continue; }
    case $tool in buildah | podman) say version "$tool" "$("$tool" --version 2>&1 | sed -n 's/[^0-9]*\([0-9][^ ,]*\).*/\1/p;1q')" ;; esac
done
said=$(mkdir -p "$root" 2>&1 && : 2>&1 >"$root/.writable" && rm -f "$root/.writable") || { say unwritable "$root: $(first "$said")"; exit 0; }
say free "$(df -Pk "$root" | awk 'NR == 2 { print $4 }')"
busy=0
for held in "$root"/work/*/pid; do
    [ -f "$held" ] && kill -0 "$(cat "$held")" 2>/dev/null && busy=$((busy + 1))
done
say busy "$busy"
engine=$(command -v buildah || command -v podman) || exit 0
command -v tar >/dev/null 2>&1 || exit 0
say engine "${engine##*/}"
# podman puts sockets below its run root and refuses one of more than 50 characters.
[ "${engine##*/}" = buildah ] || [ ${#root} -le 46 ] || { say long "$root"; exit 0; }
key=$({ cat /proc/sys/kernel/random/boot_id; "$engine" --version; id -u; echo "$root"; } 2>&1 | cksum | cut -d ' ' -f 1)
say key "$key"
[ "$key" != "$2" ] || exit 0

try=$root/probe.$$
trap 'rm -rf "$try"' EXIT
mkdir -p "$try" "$root/tmp" && tar -xf - -C "$try" || exit 0
chosen=
for program in "$try"/smallest-*; do
    "$program" >/dev/null 2>&1
    [ $? = 42 ] || continue
    say executes "${program##*/smallest-}"
    [ "${program##*/smallest-}" = "$3" ] || [ -z "$chosen" ] && chosen=${program##*/}
done
printf 'FROM scratch\nCOPY %s /program\nRUN ["/program"]\n' "$chosen" >"$try/Dockerfile"
# The image's one program exits with 42: that it ran shows in how the build fails.
for isolation in chroot rootless oci; do
    said=$(TMPDIR=$root/tmp "$engine" --root "$root/storage" --runroot "$root/run" build --network host --pull=never \
        --layers=false --isolation "$isolation" -f "$try/Dockerfile" "$try" 2>&1 </dev/null)
    case $said in
    *"exit status 42"*) say isolation "$isolation"; exit 0 ;;
    *) say refused "$isolation" "$(printf '%s\n' "$said" | grep -i error | tail -n 1)" ;;
    esac
done
