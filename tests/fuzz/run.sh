#!/usr/bin/env bash
# Runs the C fuzzers, all at once, with address and undefined-behaviour sanitisers: what has been found before, then new
# inputs for SECONDS each, from a seed that is the same in each run. Needs clang 19 (or another: CC=clang) and meson.
# Usage: run.sh [SECONDS [WORK]]   (60; hours: tests/fuzz/run.sh 14400)
# An input that fails is left in WORK/found. SEED=N starts elsewhere; GROW=1 adds what reaches new code to the corpora.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:-60}
work=${2:-$(mktemp -d)}
mkdir -p "$work/found"
if [ ! -f "$work/build/build.ninja" ]; then
    CC=${CC:-clang-19} meson setup "$work/build" "$here/../.." -Dpython=disabled -Dfuzz=true --buildtype=release \
        -Db_sanitize=address,undefined -Db_lundef=false \
        -Dc_args="-fsanitize=fuzzer-no-link -fsanitize-ignorelist=$here/kernels.list -fsanitize-coverage-ignorelist=$here/kernels.list"
fi
meson compile -C "$work/build" tests/fuzz/fuzz_check tests/fuzz/fuzz_operations_f32 tests/fuzz/fuzz_operations_f64
declare -A process=()
# Both dtypes have the corpus of operations.
for name in check operations_f32 operations_f64; do
    corpus=$here/corpus/${name%_f??}
    mkdir -p "$work/new_$name"
    "$work/build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -seed="${SEED:-1}" -max_len=96 -timeout=60 \
        -artifact_prefix="$work/found/$name-" "$work/new_$name" "$corpus" >"$work/$name.log" 2>&1 &
    process[$name]=$!
done
failed=0
for name in check operations_f32 operations_f64; do
    wait "${process[$name]}" || { failed=1 && tail -n 60 "$work/$name.log"; }
    corpus=$here/corpus/${name%_f??}
    [ -z "${GROW:-}" ] || "$work/build/tests/fuzz/fuzz_$name" -set_cover_merge=1 "$corpus" "$work/new_$name"
    printf '%s: %s\n' "$name" "$(grep '^Done' "$work/$name.log")"
done
exit $failed
