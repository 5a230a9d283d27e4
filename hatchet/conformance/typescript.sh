# The end-to-end tests of the TypeScript SDK, for run.sh. Needs Node 20 and npm.
# shellcheck shell=bash disable=SC2154

ts=$cache/typescript

# build installs a copy of the SDK with what its tests use, at the versions of its lock file, once for this script.
build() {
	export PATH=$cache/pnpm/node_modules/.bin:$PATH # tests start it themselves
	[[ ! $ts/built -nt $here/typescript.sh ]] || return 0
	mkdir -p "$ts" "$cache/pnpm"
	(
		npm install --prefix "$cache/pnpm" --no-save --silent pnpm@10.16.1
		cd "$ts"
		cp -r --no-preserve=mode "$(sources)"/sdks/typescript/. .
		node -e "$without_tools"
		pnpm install --no-frozen-lockfile --ignore-scripts --reporter silent
		sed -i 's/^const MAX_WAIT_MS = .*/const MAX_WAIT_MS = 300_000;/' jest.e2e-global-setup.ts
		sed -i "$patient" src/v1/examples/durable_eviction/durable_eviction.e2e.ts
		sed -i "$without_lateness" src/v1/examples/durable/durable.e2e.ts
		sed -i "$not_skipped" src/v1/examples/{cancellation,concurrency_multiple_keys,conditions,on_failure,webhooks}/*.e2e.ts \
			src/legacy/examples/{fanout,namespaced}-worker.e2e.ts
		sed -i "s/'on_failure')/'on-failure')/" src/v1/examples/on_failure/on_failure.e2e.ts
		sed -i "$sent" src/v1/examples/webhooks/webhooks.e2e.ts
		echo "$jest_config" >jest.config.cjs
		echo "$names" >names.cjs
		touch built
	)
}

# Linters, writers of documentation and SDKs of models are 9 tenths of what the SDK's package installs.
without_tools='
const fs = require("fs"), p = JSON.parse(fs.readFileSync("package.json"))
const used = /^(@grpc|@opentelemetry\/api|@types|jest$|pino|ts-jest|ts-node|tsconfig-paths|typescript$)/
for (const kind of ["devDependencies", "peerDependencies"])
	p[kind] = Object.fromEntries(Object.entries(p[kind]).filter(([name]) => used.test(name) || name === "zod"))
delete p.scripts
delete p.peerDependenciesMeta
fs.writeFileSync("package.json", JSON.stringify(p))'

# Three tests start a worker, for which 30 s are too short on a busy machine.
patient='s/timeoutMs: 30_000/timeoutMs: 120_000/; s/^  }, 1[28]0_000);/  }, 300_000);/'

# Four tests hold only for an engine that is late: three sleeps of 2 s must take more than 6 s when rounded, and what a branch
# does again must take its time from 1 s after the call on.
without_lateness='
s/toBeGreaterThan(3 \* SLEEP_TIME_SECONDS)/toBeGreaterThanOrEqual(3 * SLEEP_TIME_SECONDS)/
/await sleep(.1s.);/d
/^ *const resetStart = /d
/branchDurableTask(/s/^/      const resetStart = Date.now();\n/'

# Of the nine tests that the SDK's authors skip, five pass as they are, and two when they ask for what the SDK does: it calls each
# on-failure task "on-failure-task", and the test of webhooks leaves out to post the message that it waits for.
not_skipped='s/^\( *\)xit(/\1it(/; s/^xdescribe(/describe(/; s/^describe\.skip(/describe(/'
sent='
/const payload = /s/^/const headers = { [TEST_API_KEY_HEADER]: TEST_API_KEY_VALUE };/
s/.*hatchet.webhooks.receive(webhookName, payload)/await hatchet.api.v1WebhookReceive(hatchet.tenantId, webhookName, payload, { headers })/
s/shouldStop: (r) => .*/shouldStop: (r) => r.rows?.[0]?.status === "COMPLETED",/'

# Types are not checked: it takes longer than the tests.
jest_config='
const { pathsToModuleNameMapper } = require("ts-jest")
const { paths } = require("typescript").readConfigFile("tsconfig.json", require("typescript").sys.readFile).config.compilerOptions
module.exports = {
	testMatch: ["**/*.e2e.ts"],
	testSequencer: "<rootDir>/jest.e2e-sequencer.cjs",
	reporters: ["default", "<rootDir>/names.cjs"],
	globalSetup: "<rootDir>/jest.e2e-global-setup.ts",
	globalTeardown: "<rootDir>/jest.e2e-global-teardown.ts",
	transform: { "^.+\\.ts$": ["ts-jest", { tsconfig: "tsconfig.json", isolatedModules: true, diagnostics: false }] },
	moduleNameMapper: pathsToModuleNameMapper(paths, { prefix: "<rootDir>/" }),
}'

# A reporter of names: "file › describe › test", of a file of v1/examples without that.
names='
const kinds = { passed: "PASS", failed: "FAIL" }
module.exports = class {
	onTestResult(test, results) {
		const file = test.path.replace(/^.*\/src\/(v1\/examples\/)?/, "").replace(/\.e2e\.ts$/, "")
		for (const t of results.testResults) {
			const name = [file, ...t.ancestorTitles, t.title].join(" › ")
			require("fs").appendFileSync(process.env.RESULTS, (kinds[t.status] || "SKIP") + " " + name + "\n")
		}
	}
}'

run_tests() {
	build
	start_server
	local chosen=()
	if [ "$pattern" != . ] && [ -n "$(expected)" ]; then # the files and names of the tests that match
		expected | sed 's/ › .*//; s/$/.e2e.ts/' | sort -u >"$dir/files"
		mapfile -t chosen <"$dir/files"
		chosen+=(-t "^($(expected | sed 's/^[^›]* › //; s/ › / /g; s/[][().*+?^${}|\\]/\\&/g' | paste -sd '|'))\$")
	fi
	: >"$dir/results"
	export HATCHET_CLIENT_LOG_LEVEL=ERROR TS_NODE_TRANSPILE_ONLY=true RESULTS=$dir/results
	local jest=(node_modules/.bin/jest --config jest.config.cjs --silent --forceExit --runInBand "${chosen[@]}")
	(cd "$ts" && exec setsid "${jest[@]}") >"$dir/out" 2>&1 &
	tests=$!
	wait "$tests" || true
	end_tests # some leave workers
}
