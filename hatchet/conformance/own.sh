# Tests of this project by the Go SDK, of what the SDKs' own tests leave out, for run.sh.
# shellcheck shell=bash disable=SC2154

run_tests() {
	mkdir -p "$cache"
	(cd "$here/own" && go vet . && go test -c -o "$cache/own.test" .)
	start_server
	export STINT_HATCHET=$dir/stint-hatchet # for tests that end their server
	"$cache/own.test" -test.v -test.count 1 -test.parallel 20 -test.timeout 10m -test.run "$pattern" >"$dir/out" 2>&1 || true
	sed -n 's/^--- \(PASS\|FAIL\|SKIP\): \([^ ]*\).*/\1 \2/p' "$dir/out" | sort >"$dir/results"
}
