# The cases on a PostgreSQL server, for run.sh.
scale=${SCALE:-100}

p() { "$bin/${1%%-*}" -reps 1 -cap "$cap" -limit 10m -variant "$1" -scale "$scale" -c7 $((2000 * scale / 100)) -c8 "${PENDING:-1000000}" -hold "${HOLD:-10m}" -cases "$2" | tee -a "$out" >&2; }

for round in $(seq "$rounds"); do
	echo "round $round of $rounds" >&2
	for case in C1 C4 C5 C2 C3; do
		p stint-pg $case
		p river-pg-tuned $case
	done
	"$bin/phys-postgres" -length 3s | tee -a "$out" >&2
	p stint-pg C7
	p dbos-pg C7
	p stint-pg W-chain5,W-chain5-100,C5-process,P1,P4,P2x500,P2x500-1ms
done
"$bin/medians" "$out" # of the cases so far, for whoever does not wait for the rest
p stint-pg C8-plain,C8,C8-plain
"$bin/move" -runs "${MOVE:-1000000}" | tee -a "$out" >&2
p stint-pg C4-held
"$bin/medians" "$out"
