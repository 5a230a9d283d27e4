# The end-to-end tests of the Python SDK, for run.sh: of its folders examples and tests, those that need a server. Needs Python 3.10.
# shellcheck shell=bash disable=SC2154

sdk_version=1.38.0 # of the sources' folder sdks/python
python=$cache/python-$sdk_version
suites=(examples tests/child_spawn_cache_on_retry tests/concurrency_strategies tests/correct_failure_on_timeout_with_multi_concurrency
	tests/slot_cost tests/test_cel_debugging.py tests/test_rest_api.py)

# install makes an environment with the SDK from the package index, and a copy of the tests. The copy takes a free port for each
# worker's health check, and waits longer for a worker to start: a busy machine may need more than 25 s. Who waits until a run is
# seen to run goes on when it has ended: one that looks back may end before anybody looks. "poetry run", by which the tests start
# workers, is the environment itself.
install() {
	[[ ! $python/ready -nt $here/python.sh ]] || return 0
	rm -rf "$python"
	mkdir -p "$python/bin"
	python3 -m venv "$python/venv"
	"$python/venv/bin/pip" install -q "hatchet-sdk[otel]==$sdk_version" pytest==9.2.0 pytest-asyncio==1.5.0 pytest-env==1.8.5 \
		pytest-retry==1.7.0 pytest-timeout==2.4.0 pytest-xdist==3.8.0 requests==2.34.2 boto3==1.44.8 psutil==7.2.2
	cp -r "$(sources)"/sdks/python/{examples,tests,conftest.py,pyproject.toml} "$python"
	chmod -R u+w "$python"
	sed -i 's/hatchet_worker(command) as/hatchet_worker(command, get_free_port()) as/' "$python/conftest.py"
	sed -i 's/max_healthcheck_attempts = 25/max_healthcheck_attempts = 120/' "$python/tests/worker_fixture.py"
	sed -i 's/run.status == RunStatus.RUNNING and/run.status != RunStatus.QUEUED and/' "$python/examples/test_utils.py"
	printf '#!/bin/sh\nshift\nexec "$@"\n' >"$python/bin/poetry"
	chmod +x "$python/bin/poetry"
	touch "$python/ready"
}

pytest() {
	(
		cd "$python"
		export PATH=$python/bin:$python/venv/bin:$PATH PYTHONPATH=$python HATCHET_CLIENT_NAMESPACE=
		python -m pytest -p no:cacheprovider "$@"
	)
}

# run_tests runs the tests of batches with one worker: workers of several processes would share the members of a batch. The
# others run in two processes, each with its worker.
run_tests() {
	install
	start_server
	pytest --collect-only -q --ignore examples/unit_testing "${suites[@]}" | grep '::' | grep -E -- "$pattern" >"$dir/tests" || true
	local batches=() others=() test
	while read -r test; do
		case $test in
		*/batch_assign/*) batches+=("$test") ;;
		*) others+=("$test") ;;
		esac
	done <"$dir/tests"
	: >"$dir/out"
	[ ${#others[@]} = 0 ] || pytest -rA --timeout 180 -n 2 --dist loadfile "${others[@]}" >>"$dir/out" 2>&1 || true
	[ ${#batches[@]} = 0 ] || pytest -rA --timeout 180 "${batches[@]}" >>"$dir/out" 2>&1 || true
	sed -n 's/^PASSED \(.*::.*\)/PASS \1/p; s/^\(FAILED\|ERROR\) \([^ ]*::.*\)/FAIL \2/p' "$dir/out" |
		sed 's/ - .*//' | sort -u >"$dir/results"
}
