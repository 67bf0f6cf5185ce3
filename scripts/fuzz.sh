#!/bin/sh
# Fuzzes the parsers of outside bytes and text: scripts/fuzz.sh [SECONDS=60] [TARGET…], all targets by default.
# New inputs are kept in fuzz/corpus/TARGET, those that crash a target in fuzz/artifacts/TARGET.
set -eu
cd "$(dirname "$0")/../fuzz"

case ${1:-} in
'' | *[!0-9]*) seconds=60 ;;
*) seconds=$1; shift ;;
esac
targets=${*:-$(ls fuzz_targets | sed -n 's/\.rs$//p')}

RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN:-nightly}
export RUSTUP_TOOLCHAIN
if ! cargo --version 2>/dev/null | grep -q nightly; then
	echo "fuzz: there is no nightly toolchain, which the sanitizers need; install it: rustup toolchain install nightly" >&2
	exit 1
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
	echo "fuzz: there is no cargo-fuzz; install it: cargo install cargo-fuzz" >&2
	exit 1
fi
for target in $targets; do
	if [ ! -f "fuzz_targets/$target.rs" ]; then
		echo "fuzz: there is no target $target; there are: $(ls fuzz_targets | sed -n 's/\.rs$//p' | tr '\n' ' ')" >&2
		exit 2
	fi
done

failed=
for target in $targets; do
	echo "fuzz: $target for $seconds s"
	mkdir -p "corpus/$target"
	cargo fuzz run "$target" "corpus/$target" "seeds/$target" -- \
		-max_total_time="$seconds" -timeout=10 -max_len=65536 -print_final_stats=1 || failed="$failed $target"
done
if [ -n "$failed" ]; then
	echo "fuzz: found something in:$failed; the inputs are in fuzz/artifacts" >&2
	exit 1
fi
