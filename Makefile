.PHONY: test quickstart bench check

test: ## what the README says passes the tests
	go test -timeout 10m ./...

quickstart: ## the main job on real input
	go run ./examples/quickstart

bench: ## this library, its peers and the limit, on the same work
	cd bench && ./run.sh

check: ## everything CI does
	bash .ci/run
