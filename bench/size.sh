#!/usr/bin/env bash
# Prints the size of a hello world with this library, and what each dependency adds.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d -p .) && trap 'rm -rf "$tmp"' EXIT
size() { # name, imports
  mkdir -p "$tmp/$1"
  { echo 'package main'; for i in $2; do echo "import _ \"$i\""; done; echo 'func main() { println("hello") }'; } >"$tmp/$1/main.go"
  go build -trimpath -o "$tmp/$1/bin" "./$tmp/$1"
  printf '%-44s %6.2f MiB\n' "$1" "$(stat -c %s "$tmp/$1/bin" | awk '{print $1/1048576}')"
}
std="context fmt log log/slog encoding/json database/sql"
size nothing ""
size standard-library "$std"
size uuid "$std github.com/google/uuid"
size modernc-sqlite "$std github.com/google/uuid modernc.org/sqlite"
go build -trimpath -o "$tmp/hello" ./examples/hello
printf '%-44s %6.2f MiB\n' "examples/hello" "$(stat -c %s "$tmp/hello" | awk '{print $1/1048576}')"
cp -r examples/hello "$tmp/page"
sed -i 's#^\t"github.com/stint-dev/stint"#&\n\t_ "github.com/stint-dev/stint/ui"#' "$tmp/page/main.go"
rm -f "$tmp"/page/*_test.go
go build -trimpath -o "$tmp/hello" "./$tmp/page"
printf '%-44s %6.2f MiB\n' "examples/hello, with package ui" "$(stat -c %s "$tmp/hello" | awk '{print $1/1048576}')"
go build -trimpath -ldflags '-s -w' -o "$tmp/hello" ./examples/hello
printf '%-44s %6.2f MiB\n' "examples/hello, -ldflags '-s -w'" "$(stat -c %s "$tmp/hello" | awk '{print $1/1048576}')"
