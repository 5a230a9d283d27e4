# The end-to-end tests of the Go SDK, for run.sh.
# shellcheck shell=bash disable=SC2154

# build compiles a copy of the tests, once for this script.
build() {
	[[ ! $cache/e2e.test -nt $here/go.sh ]] || return 0
	mkdir -p "$cache/go/e2e"
	(
		cd "$cache/go"
		[ -f go.mod ] || go mod init conformance
		go get "github.com/hatchet-dev/hatchet/sdks/go/e2e@$version"
		cp "$(sources)"/sdks/go/e2e/*.go e2e/
		chmod u+w e2e/*
		GOFLAGS=-mod=mod go test -c -tags e2e -o "$cache/e2e.test" ./e2e
	)
}

run_tests() {
	build
	start_server
	"$cache/e2e.test" -test.v -test.count 1 -test.timeout 25m -test.run "$pattern" >"$dir/out" 2>&1 || true
	sed -n 's/^--- \(PASS\|FAIL\|SKIP\): \([^ ]*\).*/\1 \2/p' "$dir/out" | sort >"$dir/results"
}
