#!/bin/sh
# Builds the servers of Kubernetes that a test runs, once, out of the module that the Go module proxy serves: its
# `replace`s point to folders that a module does not have, so they are taken out. Takes minutes; needs Go and etcd-server.
set -eu
version=34.4
target=${POLYARCH_TEST_CACHE:-$HOME/.cache/polyarch-tests}/bin
programs="kube-apiserver kube-controller-manager kube-scheduler"
missing=""
for program in $programs; do [ -x "$target/$program" ] || missing="$missing $program"; done
[ -n "$missing" ] || exit 0
mkdir -p "$target"
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
export GOFLAGS=-mod=mod GOWORK=off GOTOOLCHAIN=local
source=$(cd "$work" && go mod download -json "k8s.io/kubernetes@v1.$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
cp -r "$source" "$work/src"
chmod -R u+w "$work/src"
cd "$work/src"
rm -rf vendor
for module in $(sed -n 's|^\t\(k8s.io/[a-z-]*\) => \./staging.*|\1|p' go.mod); do
    go mod edit -dropreplace="$module" -require="$module@v0.$version"
done
flags="-s -w -X k8s.io/component-base/version.gitVersion=v1.$version"
for program in $missing; do
    nice -n 19 go build -p 2 -trimpath -ldflags="$flags" -o "$target/$program" "./cmd/$program"
done
