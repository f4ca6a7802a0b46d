# secret.sh FOLDER NAME: put standard input into a file that nobody else can read, in a folder that is in memory.
umask 077
mkdir -p "$1" && cat >"$1/$2"
