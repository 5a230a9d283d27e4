#!/usr/bin/env bash
# Generates the Go code of the .proto files. Needs protoc (Debian: protobuf-compiler); installs the rest.
set -euo pipefail
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
GOBIN=$bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
GOBIN=$bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
PATH="$bin:$PATH" protoc --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative,require_unimplemented_servers=false ./*.proto
sed -i '/^\/\/ \tprotoc  *v/d' ./*.pb.go # it differs between machines, the code does not
gofmt -w ./*.pb.go
