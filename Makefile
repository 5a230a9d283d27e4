.PHONY: test torture quickstart bench hatchet check

test: ## what the README says passes the tests, with a taste of each attack
	go test -timeout 60m ./...

torture: ## the attacks at length, and rows changed by hand in every column (about 5 minutes)
	go test -count 1 -timeout 60m -v ./internal/torture -long

quickstart: ## the main job on real input
	go run ./examples/quickstart

bench: ## this library, its peers and the limit, on the same work
	cd bench && ./run.sh

hatchet: ## Hatchet's SDKs' own tests against the gateway (about 35 minutes)
	hatchet/conformance/run.sh go
	hatchet/conformance/run.sh typescript
	hatchet/conformance/run.sh own
	hatchet/conformance/run.sh python

check: ## everything CI does
	bash .ci/run
