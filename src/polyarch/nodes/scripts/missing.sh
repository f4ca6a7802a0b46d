# missing.sh FOLDER ID: of the lines `DIGEST MODE-TIME` on standard input, those whose file is not here. Content that is
# here under another mode or time is copied instead of being sent.
cd "$1" || exit 1
while read -r digest key; do
    [ ! -e "files/$digest/$key" ] || continue
    set -- "$1" "$2" "files/$digest"/*
    if [ -f "$3" ] && cp "$3" "work/$2/copy" 2>/dev/null; then
        chmod "${key%%-*}" "work/$2/copy" && touch -d "@${key#*-}" "work/$2/copy" &&
            mv "work/$2/copy" "files/$digest/$key" && continue
    fi
    printf '%s %s\n' "$digest" "$key"
done
