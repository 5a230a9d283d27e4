#!/usr/bin/env bash
# Runs the tests of Hatchet's own SDKs against a new server on a file, or with STINT_DATABASE_URL on a new schema of that PostgreSQL
# server, which stays. The SDKs are downloaded at fixed versions; nothing of them is kept here. The exit status is 1 if a test of the
# list of what must pass did not.
#
#	./run.sh go           the Go SDK's end-to-end tests
#	./run.sh typescript   the TypeScript SDK's
#	./run.sh python       the Python SDK's
#	./run.sh go 'Batch'   those whose names match
#
# What is particular to an SDK is in its own file, which defines run_tests: it writes a line "PASS name", "FAIL name" or "SKIP name"
# of each test to $dir/results, and what the tests print to $dir/out.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sdk=${1:-} pattern=${2:-.}
if [ ! -f "$here/expected/$sdk.txt" ]; then
	echo "usage: run.sh $(cd "$here/expected" && ls | sed 's/\.txt$//' | paste -sd '|') [pattern]" >&2
	exit 2
fi
version=v0.105.0
cache=${STINT_CONFORMANCE_CACHE:-$HOME/.cache/stint-conformance}/$version
dir=$(mktemp -d)
server= tests= # process, and group of processes
trap 'end_tests; [ -z "$server" ] || { kill "$server"; wait "$server" || true; }; rm -rf "$dir"' EXIT

# end_tests ends what the tests have left.
end_tests() {
	[ -z "$tests" ] || kill -- "-$tests" 2>/dev/null || true
	tests=
}

# sources prints the folder of Hatchet's sources.
sources() {
	go mod download -json "github.com/hatchet-dev/hatchet@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p'
}

# start_server starts a server on a new database and sets the environment of SDKs.
start_server() {
	local db=(-db "$dir/app.db")
	[ -z "${STINT_DATABASE_URL:-}" ] || db=(-db "$STINT_DATABASE_URL" -schema "conformance_$(date +%s)_$$")
	(cd "$here/.." && go build -o "$dir/stint-hatchet" ./cmd/stint-hatchet)
	"$dir/stint-hatchet" "${db[@]}" -addr 127.0.0.1:0 -no-page >"$dir/env" 2>"$dir/server.log" &
	server=$!
	for _ in $(seq 300); do
		grep -q '^# serving' "$dir/env" && break
		kill -0 "$server" || { cat "$dir/server.log"; exit 1; }
		sleep 0.1
	done
	# shellcheck disable=SC1091
	. "$dir/env"
}

# expected prints the names of the tests that must pass and match the pattern.
expected() {
	grep -E -- "$pattern" "$here/expected/$sdk.txt" || true
}

# report prints the results beside what is expected, and fails if a test that must pass did not.
report() {
	local missed=0 name result
	while read -r name; do
		if grep -qxF -- "PASS $name" "$dir/results"; then
			echo "pass  $name"
		else
			echo "FAIL  $name   must pass"
			missed=$((missed + 1))
		fi
	done < <(expected)
	while read -r result name; do
		grep -qxF -- "$name" "$here/expected/$sdk.txt" || echo "${result,,}  $name   not in the list"
	done <"$dir/results"
	echo "$(grep -c '^PASS' "$dir/results" || true) passed, $missed of those that must pass did not"
	[ "$missed" = 0 ] || { tail -n 60 "$dir/out"; tail -n 20 "$dir/server.log"; return 1; }
}

# shellcheck disable=SC1090
. "$here/$sdk.sh"
run_tests
report
