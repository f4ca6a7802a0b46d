"""What a twin and the original are given, to see that both answer alike: shell commands, by tool.

`@` stands for the tool's path. Each command starts in a folder of its own with the files that `INPUTS` makes, as root
in a container of the base. It must print nothing that changes from run to run: no times, inode numbers, random names.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from polyarch.emulation.twins.catalogue import Tool

INPUTS = r"""
printf 'b line\na line\n\nC line 3\na line\n' >text
printf '10\n9\n-1\n2.5\n' >numbers
printf 'a\tx\nb\ty\n' >left
printf 'a\t1\nc\t2\n' >right
printf '\303\244\n\377\000\n' >bytes
head -c 100000 /dev/zero >zeros
mkdir -p tree/sub
echo one >tree/one
echo two >tree/sub/two
ln -s one tree/link
chmod 640 tree/one
"""
_DEB = (
    "mkdir -p d/DEBIAN d/etc; echo x >d/etc/x; printf 'Package: x\\nVersion: 1\\nArchitecture: all\\n"
    "Maintainer: m\\nDescription: d\\n' >d/DEBIAN/control; "
)
_SUMS = ("@ text zeros bytes", "@ nothing", "@ <zeros")

# A line is `NAMES | COMMAND`.
_COMMANDS = r"""
[ | @ -f text ]; echo $?; @ 2 -gt 10 ]; echo $?; @ a =
test | @ -d tree; echo $?; @ a \< b; echo $?
base32 base64 | @ bytes; @ text >x; @ -d x
basenc | @ --base16 bytes
basename dirname | @ /a/b.c; @ /; @
cat | @ -A text bytes; @ nothing text
chgrp | @ -v 0 text; @ nosuch text
chmod | @ -v u+x,g-w text; stat -c %a text; @ 9 text
chown | @ -v 0:0 text; @ nosuch text
comm | sort text >s; @ s s; @ text s
cp | @ -a tree copy; find copy | sort; @ text nowhere/x
csplit | @ text 2; cat xx00 xx01
cut | @ -f2 left; @ -c1-3 text; @ -d' ' -f2- text; @ text
date | @ -u -d @86400; @ -u -d '2001-02-03 +5 days' +%c; @ -d nonsense
dd | @ if=text bs=3 count=2 2>/dev/null; @ if=nothing
df du dir vdir | @ nothing
dir | @ -1 tree
du | @ -b --apparent-size tree/one
dircolors | @ -b
echo | @ -e 'a\tb\0101'; @ -n x
env | @ -i A=1 @; @ -i nosuch
expand unexpand | @ left; @ -t 3 text
expr | @ 3 + 4 \* 2; @ abc : 'a\(.\)'; @ 1 / 0; @ 12345678901234567890 + 1
factor | @ 360 18446744073709551615 x
true false | @; echo $?
fmt | @ -w 20 text
fold | @ -w 3 text
groups id | @ root; @ nosuch
id | @; @ -u nobody
head | @ -n 2 text; @ -c 5 text; @ nothing
hostid nproc tty pwd whoami logname | @
install | @ -m 750 -D text a/copy; stat -c %a a/copy
join | @ left right; @ -a1 -a2 left right
link | @ text other; cat other; @ nothing x
ln | @ -s text l; readlink l; @ nothing x
ls | @ -R tree; @ -n --time-style=+ tree/one; @ nothing; @ --sort=size -r
mkdir | @ -vp a/b; @ text
mkfifo | @ f; stat -c %F f
mknod | @ p p; stat -c %F p
mktemp | @ -u x.XXX | wc -c; @ x
mv | @ -v text t2; @ nothing x
nice | @; @ -n 5 @
nl | @ text; @ -ba text
nohup | @ echo hi
paste | @ left right; @ -s text
pathchk | @ -p 'a b'; @ ''
pr | @ -t -2 text
printenv | @ HOME; @ NOSUCH; echo $?
ptx | @ text
readlink | @ tree/link; @ -f tree/link; @ text; echo $?
realpath | @ tree/sub/..; @ /nothing/x
rm | @ -v text; @ nothing; @ tree; @ -rf tree; ls
rmdir | @ tree; @ nothing
b2sum cksum md5sum sha1sum sha224sum sha256sum sha384sum sha512sum sum | SUMS
md5sum sha256sum | @ text >x; @ -c x; echo y >>text; @ -c x
shred | @ -n 1 -u text; ls text
shuf | @ --random-source=zeros text
sleep | @ 0.01; @ x
sort | @ text; @ -n numbers; @ -u -r text; @ -c text; @ -k2 -s text; @ -t' ' -k2,2V text; @ -h numbers
split | @ -l 2 text; cat xaa xac; @ -n 3 text y; cat ya?
stat | @ -c '%n %s %a %F %U' text tree; @ nothing
sync | @ text; @ nothing
tac | @ text bytes
tail | @ -n 2 text; @ -n +3 text; @ -c 4 text
tempfile | @ -n t; ls t; @ --nosuch
tee | echo a | @ x; cat x; echo b | @ -a x nowhere/x; cat x
timeout | @ 0.05 sleep 5; echo $?; @ 5 true; echo $?; @ -s KILL 0.05 sleep 5; echo $?
touch | @ -d @5 x; stat -c %Y x; @ nowhere/x
tr | @ a-z A-Z <text; @ -d '\n' <text; @ -s e <text; @ x
truncate | @ -s 5 text; cat text
tsort | printf 'a b\nb c\n' | @; printf 'a b\nb a\n' | @
uniq | @ -c text; sort text | @ -d
unlink | @ text; ls text
wc | @ text zeros; @ -m bytes; @ -L text
yes | @ | head -n 3
dash | @ -c 'echo $((3*7)) ${HOME#/} $# "$@"' a b c; @ -c 'exit 3'; echo $?; @ -c 'x=; echo ${x:?unset}'; @ -c 'if'
dash | @ -c 'kill -TERM $$'; echo $?
dash | printf 'while read x; do echo "<$x>"; done <text\nprintf "%%05.2f %%x\\n" 3.14159 255' | @
dash | printf '#!/usr/bin/dash\necho "$0" "$@"; echo *; trap "echo bye" EXIT' >s; chmod +x s; ./s 'a b'
sed | @ -n 's/line/LINE/p' text; @ -E 's/(a|b) /\1-/;2d' text; @ -i s/a/x/ text; cat text; @ s/
grep | @ -n line text; @ -E '^[ab]' text; @ -c x text; @ -r two tree; @ -oP 'l\w+' text; @ '['
mawk | @ '{ s += NF; print $1, length, s / 3 }' text; @ 'BEGIN { printf "%.10g %d\n", 1/3, 2^31 }'; @ 'BEGIN {'
mawk | @ -F'\t' '{ a[$1] = $2 } END { for (k in a) print k, a[k] }' left
mawk | @ '{ gsub(/l.n/, "[&]"); print toupper($0) }' text
tar | @ -cf - --mtime=@0 --sort=name tree | @ -tvf -; @ -cf - --mtime=@0 --sort=name tree | cksum; @ -xf text
tar | @ -czf a.tgz tree; @ -xzf a.tgz -C tree --strip-components=1; find tree | sort
gzip | @ -nc zeros | cksum; @ -n9c text | @ -dc; @ -t text
find | @ tree | sort; @ tree -type f -name 't*' -exec cat {} +; @ tree -perm 640; @ nothing; @ tree -nosuch
xargs | echo a b c | @ -n 1 echo; printf 'a\0b' | @ -0 echo; echo x | @ false; echo $?; echo x | @ nosuch
cmp diff sdiff | @ left left; @ left nothing
cmp | @ left right; @ -l left right
diff | @ -u --label a --label b left right; @ -y left right; @ -r tree tree
diff3 | @ left left right
sdiff | @ -l left right
run-parts | mkdir p; printf '#!/bin/sh\necho hi' >p/x; chmod +x p/x; @ p; @ --test tree; @ nothing
ischroot | @; echo $?
getopt | @ -o ab: -l long -- -a -b c --long d; @ -o a -- -x
flock | @ text echo locked; @ -n nowhere/x true
dpkg-deb | DEB SOURCE_DATE_EPOCH=0 @ --root-owner-group -b d x.deb; cksum x.deb; @ -I x.deb
dpkg-deb | DEB @ -b d x.deb; @ -x x.deb o; find o; @ -c text
dpkg-split | @ -s zeros; ls; @ -I zeros.1of1.deb
update-alternatives | @ --install /usr/bin/pv pv /usr/bin/env 5; @ --query pv; readlink /usr/bin/pv; @ --display nosuch
dpkg | @ --print-architecture; @ -l | cksum; @ -s dpkg
dpkg | @ --compare-versions 1:2~rc lt 1:2; echo $?; @ -L dash; @ --audit
dpkg | DEB dpkg-deb -b d x.deb >x; @ -i x.deb; @ -s x; cat /etc/x; @ -P x; @ -i nothing.deb
dpkg | @ --add-architecture i386; @ --print-foreign-architectures
dpkg-query | @ -W | cksum; @ -S /usr/bin/dash; @ -W -f '${Package} ${Architecture}\n' libc6; @ -s nosuch; @ -l 'lib*'
dpkg-divert | @ --add --rename --divert /usr/bin/yes.d /usr/bin/yes; @ --list; ls /usr/bin/yes*
dpkg-divert | @ --rename --remove /usr/bin/yes
dpkg-trigger | @ --check-supported; @ --no-act nothing
dpkg-statoverride | @ --add root root 700 /etc/x; @ --list; @ --remove /etc/x
apt-config | @ dump APT::Architecture; @ shell x APT::Architectures/i
apt-get | @ -s install dash; @ nonsense; @ -s remove apt
apt-cache | @ policy dash; @ show nothing; @ depends dash
apt-mark | @ showmanual; @ hold dash; @ showhold; @ unhold dash
apt | @ list --installed 2>/dev/null | cksum; @ nonsense
apt-helper apt-extracttemplates | @ nothing
copy file gpgv http mirror rred sqv store | @ </dev/null
gpgv sqv | @ nothing
perl | echo 'debconf debconf/priority select low' | debconf-set-selections; cat /var/cache/debconf/config.dat
perl | deb-systemd-helper was-enabled nosuch.service; echo $?; deb-systemd-helper --help; update-rc.d nosuch defaults
"""


def _cases() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for row in _COMMANDS.strip().splitlines():
        names, _, command = row.partition(" | ")
        for name in names.split():
            more = _SUMS if command == "SUMS" else (command.replace("DEB ", _DEB, 1),)
            found[name] = found.get(name, ()) + more
    return found


CASES = _cases()


def script(tools: Iterable[Tool]) -> str:
    """A shell script that runs all commands of these tools, and writes what came of each below /out."""
    lines = ["mkdir -p /work/inputs; cd /work/inputs", INPUTS, "cd /work"]
    for tool in tools:
        for number, command in enumerate(CASES.get(tool.name, ())):
            name = shlex.quote(f"{tool.name}-{number}")
            run = f"( cd {name}; eval {shlex.quote(command.replace('@', f'/{tool.path}'))} )"
            lines.append(f"cp -a inputs {name}; {run} </dev/null >/out/{name}.out 2>/out/{name}.err")
            lines.append(f"echo $? >/out/{name}.status; chmod 644 /out/{name}.*; rm -rf {name}")
    return "\n".join([*lines, ""])
