# unpack.sh FOLDER ID: take a tar on standard input: new files below work/ID/new, and trees that link to files. What is
# new is kept only when the tar was whole.
cd "$1" || exit 1
mkdir -p "work/$2/new" && tar -xpf - && cp -alf "work/$2/new/." files/ && rm -rf "work/$2/new"
