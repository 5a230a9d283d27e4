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
serving() { # what it is called, what it serves, import
  mkdir -p "$tmp/serving"
  sed "s#^\t\"github.com/stint-dev/stint\"#&\n\t\"net/http\"\n$3#; s#defer client.Close().*#&\n\tgo http.ListenAndServe(\"localhost:8080\", $2)#" examples/hello/main.go >"$tmp/serving/main.go"
  go build -trimpath -o "$tmp/hello" "./$tmp/serving"
  printf '%-44s %6.2f MiB\n' "$1" "$(stat -c %s "$tmp/hello" | awk '{print $1/1048576}')"
}
serving "examples/hello, serving HTTP" 'http.NotFoundHandler()' ""
serving "examples/hello, serving package ui" 'ui.Handler(client)' '\t"github.com/stint-dev/stint/ui"'
go build -trimpath -ldflags '-s -w' -o "$tmp/hello" ./examples/hello
printf '%-44s %6.2f MiB\n' "examples/hello, -ldflags '-s -w'" "$(stat -c %s "$tmp/hello" | awk '{print $1/1048576}')"
