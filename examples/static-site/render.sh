#!/bin/sh
# render.sh FROM TO: each FROM/NAME.txt (its title on the first line) becomes TO/NAME.html.
set -eu
mkdir -p "$2"
for page in "$1"/*.txt; do
    title=$(head -n 1 "$page")
    name=$(basename "$page" .txt)
    {
        printf '<!doctype html>\n<meta charset="utf-8">\n<title>%s</title>\n<h1>%s</h1>\n' "$title" "$title"
        tail -n +2 "$page" | sed 's|.*|<p>&</p>|'
    } > "$2/$name.html"
done
