#!/usr/bin/env bash
# Runs this library, its SQLite peers and the physical limit on the same work, and
# prints the medians. One JSON line a measurement goes to results/<time>.jsonl.
#   REPS=3 CAP=10s ./run.sh
set -euo pipefail
cd "$(dirname "$0")"
reps=${REPS:-3} cap=${CAP:-10s} bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
mkdir -p results
out=results/$(date +%Y%m%d-%H%M%S).jsonl
go build -o "$bin/" ./cmd/...

b() { "$bin/$1" -reps "$reps" -cap "$cap" -variant "$2" -cases "$3" | tee -a "$out" >&2; }
limit() { "$bin/phys-modernc" -reps "$reps" -cap 800ms -only "$1" | tee -a "$out" >&2; }

limit disk/
limit commit/full
limit life/full/group100/update
limit bulk/full/tx1000/values50
b stint stint C1,C2,C3,C4,C5,C6,C6b,C8,C9
b stint stint-normal C1,C2,C4
b stint stint W-chain5,W-chain5-100,W-diamond10,W-wide10000,W-chain1000
"$bin/limits" | tee -a "$out" >&2
"$bin/schedules" | tee -a "$out" >&2
"$bin/ui" | tee -a "$out" >&2
"$bin/durable" | tee -a "$out" >&2
b river river-sqlite C1,C2,C3,C4,C5,C6
b river river-sqlite-tuned C4,C5,C6,C8
b goqite goqite C1,C2,C3,C4,C6
b goqite goqite-tuned C5
b backlite backlite C1,C2,C3,C4,C5,C6
b dbos dbos-sqlite-full C1,C2,C7
b dbos dbos-sqlite-tuned C4,C5,C6
limit life/full/group100/update
limit bulk/full/tx1000/values50
"$bin/medians" "$out"
