# hold.sh FOLDER ID ENGINE: hold one session's folder for as long as the client sends a dot every few seconds. When it
# stops (or the connection does), the build and everything that the session put here goes, its secrets too.
root=$1
[ -n "$root" ] || root=$HOME/.cache/polyarch-node
work=$root/work/$2
killed=
umask 077

live() { kill -0 "$(cat "$1/pid" 2>/dev/null)" 2>/dev/null; }
engine() { TMPDIR=$root/tmp "$engine" --root "$root/storage" --runroot "$root/run" "$@" >/dev/null 2>&1 </dev/null; }
engine=$3

drop() {
    if [ -f "$1/group" ]; then
        killed=yes
        group=$(cat "$1/group")
        kill -TERM "-$group" 2>/dev/null && sleep 2
        kill -KILL "-$group" 2>/dev/null
    fi
    [ ! -f "$1/secrets" ] || rm -rf "$(cat "$1/secrets")"
    # Only folders: files are links to what is kept.
    find "$1" -type d ! -perm -700 -exec chmod u+rwx {} + 2>/dev/null
    rm -rf "$1"
}
# A build that is killed leaves its working containers, with copies of its secrets in them.
clear() {
    [ -n "$killed" ] || return
    for other in "$root"/work/*; do
        [ "$other" != "$work" ] && [ -d "$other" ] && live "$other" && return
    done
    case $engine in
    buildah) engine rm --all ;;
    *) for id in $(TMPDIR=$root/tmp podman --root "$root/storage" --runroot "$root/run" ps -aq --external); do engine rm -f "$id"; done ;;
    esac
    killed=
}
finish() {
    trap '' HUP INT TERM PIPE
    drop "$work"
    clear
    # A file's change time is that of its last use: each use links it.
    find "$root/files" -type f -ctime +30 -exec rm -f {} + 2>/dev/null
}

for other in "$root"/work/*; do
    [ -d "$other" ] && ! live "$other" && drop "$other"
done
clear
# Moved in when its pid stands in it, so that no other session takes it for a dead one.
mkdir -p "$root/work" "$root/files" "$root/tmp/$2" && echo $$ >"$root/tmp/$2/pid" && mv "$root/tmp/$2" "$work" || exit 1
trap finish EXIT
trap 'exit 1' HUP INT TERM PIPE
memory=
for folder in /dev/shm "$XDG_RUNTIME_DIR"; do
    if [ -z "$memory" ] && [ -w "$folder" ] && [ "$(stat -f -c %T "$folder" 2>/dev/null)" = tmpfs ]; then
        memory=$folder/polyarch-$2
        echo "$memory" >"$work/secrets"
    fi
done
printf '%s\n%s\n' "$(cd "$root" && pwd)" "$memory"
while [ "$(timeout 30 dd bs=1 count=1 2>/dev/null)" = . ]; do :; done
