#!/usr/bin/env bash
# Runs this library, its SQLite peers and the physical limit on the same work, in turns, and prints medians and
# ratios with their spread. One JSON line a measurement goes to results/<time>.jsonl.
#   ROUNDS=3 CAP=10s ./run.sh
#   ONLY=quick ./run.sh    leaves out what takes minutes once: millions of runs, waits and pages
#   ONLY=postgres STINT_DATABASE_URL=... ./run.sh    the same on a PostgreSQL server: a round takes two minutes, what follows
#     four and HOLD. SCALE=10 HOLD=20s PENDING=100000 MOVE=10000 tries it quickly: a tenth of the runs of each case
set -euo pipefail
cd "$(dirname "$0")"
rounds=${ROUNDS:-3} cap=${CAP:-10s} bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
mkdir -p results
out=results/$(date +%Y%m%d-%H%M%S).jsonl
go build -o "$bin/" ./cmd/...

b() { "$bin/$1" -reps 1 -cap "$cap" -variant "$2" -cases "$3" | tee -a "$out" >&2; }
limit() { "$bin/phys-modernc" -reps 1 -cap 800ms -only "$1" | tee -a "$out" >&2; }

if [ "${ONLY:-}" = postgres ]; then
	. ./postgres.sh
	exit
fi

for round in $(seq "$rounds"); do
	echo "round $round of $rounds" >&2
	limit disk/append
	for case in C1 C2 C3 C4 C5 C6; do
		case $case in
		C1) limit commit/full ;;
		C3) limit bulk/full/tx1000/values50 ;;
		C4) limit life/full/group100/update ;;
		esac
		b stint stint $case
		case $case in C4 | C5 | C6) b river river-sqlite-tuned $case ;; esac
		case $case in C4) b river river-sqlite $case ;; C1 | C2 | C3) b river river-sqlite $case ;; esac
		case $case in C5) b goqite goqite-tuned $case ;; *) b goqite goqite $case ;; esac
		b backlite backlite $case
		case $case in C1 | C2) b dbos dbos-sqlite-full $case ;; C4 | C5 | C6) b dbos dbos-sqlite-tuned $case ;; esac
		case $case in C1 | C2 | C4) b stint stint-normal $case ;; esac
	done
	b stint stint C6b,C7
	b dbos dbos-sqlite-full C7
	b stint stint W-chain5,W-chain5-100,W-diamond10,W-wide10000,W-chain1000
	"$bin/limits" -pairs 1 -limits keys,rates | tee -a "$out" >&2
	"$bin/schedules" -schedules publishers | tee -a "$out" >&2
	"$bin/durable" -durable seq1000,event | tee -a "$out" >&2
done
if [ "${ONLY:-}" != quick ]; then
	b stint stint C8-plain,C8,C9
	b river river-sqlite-tuned C8
	"$bin/limits" -limits beside,fair,split | tee -a "$out" >&2
	"$bin/schedules" -schedules trigger,waits,wake1000,crons,once | tee -a "$out" >&2
	"$bin/durable" -durable replay10000,fan10000,sleep100k,kill10k | tee -a "$out" >&2
	"$bin/ui" | tee -a "$out" >&2
fi
"$bin/medians" "$out"
