#!/usr/bin/env bash
# Runs the tests of Hatchet's own SDKs against a new server on a file. The SDKs are downloaded at fixed versions; nothing of them is
# kept here. The exit status is 1 if a test of the list of what must pass did not.
#
#	./run.sh go           the Go SDK's end-to-end tests
#	./run.sh go 'Batch'   those whose names match
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sdk=${1:-go} pattern=${2:-.}
version=v0.105.0
cache=${STINT_CONFORMANCE_CACHE:-$HOME/.cache/stint-conformance}/$version
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$dir"' EXIT

# start_server starts a server on a new file and sets the environment of SDKs.
start_server() {
	(cd "$here/.." && go build -o "$dir/stint-hatchet" ./cmd/stint-hatchet)
	"$dir/stint-hatchet" -db "$dir/app.db" -addr 127.0.0.1:0 -no-page >"$dir/env" 2>"$dir/server.log" &
	server=$!
	for _ in $(seq 300); do
		grep -q '^# serving' "$dir/env" && break
		kill -0 "$server" || { cat "$dir/server.log"; exit 1; }
		sleep 0.1
	done
	# shellcheck disable=SC1091
	. "$dir/env"
}

# build_go compiles a copy of the Go SDK's tests, once for this script.
build_go() {
	[[ ! $cache/e2e.test -nt $here/run.sh ]] || return 0
	mkdir -p "$cache/go/e2e"
	(
		cd "$cache/go"
		[ -f go.mod ] || go mod init conformance
		go get "github.com/hatchet-dev/hatchet/sdks/go/e2e@$version"
		cp "$(go list -m -f '{{.Dir}}' github.com/hatchet-dev/hatchet)"/sdks/go/e2e/*.go e2e/
		chmod u+w e2e/*
		GOFLAGS=-mod=mod go test -c -tags e2e -o "$cache/e2e.test" ./e2e
	)
}

run_go() {
	build_go
	start_server
	"$cache/e2e.test" -test.v -test.count 1 -test.timeout 25m -test.run "$pattern" >"$dir/out" 2>&1 || true
	sed -n 's/^--- \(PASS\|FAIL\|SKIP\): \([^ ]*\).*/\1 \2/p' "$dir/out" | sort >"$dir/results"
}

case $sdk in
go) run_go ;;
*) echo "usage: run.sh go [pattern]" >&2; exit 2 ;;
esac

missed=0
while read -r name; do
	grep -qE "$pattern" <<<"$name" || continue
	if grep -qx "PASS $name" "$dir/results"; then
		echo "pass  $name"
	else
		echo "FAIL  $name   must pass"
		missed=$((missed + 1))
	fi
done <"$here/expected/$sdk.txt"
while read -r result name; do
	grep -qx "$name" "$here/expected/$sdk.txt" || echo "$(tr 'A-Z' 'a-z' <<<"$result")  $name   not in the list"
done <"$dir/results"
echo "$(grep -c '^PASS' "$dir/results" || true) passed, $missed of those that must pass did not"
if [ "$missed" -gt 0 ]; then
	tail -n 60 "$dir/out"
	tail -n 20 "$dir/server.log"
	exit 1
fi
