#!/usr/bin/env bash
# Builds normcore in ways that break the numeric contract, and shows that each is refused, caught or without effect.
# Usage: broken_builds.sh [WORK [DIGESTS]]   (DIGESTS: the program of a sound build, if there is one already)
# Needs gcc or $CC, meson and ninja. That a foreign fma and flushed subnormals change nothing is tested in each build as
# well: tests "digests, ..." of tests/c/meson.build.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
core=$root/src/normcore/core
expected=$root/digests/NC1.sha256
cc=${CC:-gcc}
work=${1:-$(mktemp -d)}
mkdir -p "$work"
[ $# -gt 0 ] || trap 'rm -rf "$work"' EXIT

fail() {
    printf 'NOT CAUGHT: %s\n' "$*" >&2
    exit 1
}

# guard FLAGS...: what the preprocessor says to core/numeric/guards.h.
guard() { "$cc" "$@" -fsyntax-only -x c "$core/numeric/guards.h" 2>&1; }
refused() {
    local said
    said=$(guard "$@") && fail "$cc $* compiles"
    said=$(sed -n '/error:/s/.*normcore: \(.*\)"$/\1/p' <<<"$said" | head -n 1)
    [ -n "$said" ] || fail "$cc $* fails, but not at a guard"
    printf '%-34s refused: %s\n' "$*" "$said"
}

# Every source must see the guards; a plain compilation must pass them.
guard -std=c99 || fail 'core/numeric/guards.h refuses a plain compilation'
refused -ffast-math
refused -Ofast
refused -ffinite-math-only
if "$cc" --version | head -n 1 | grep -qv clang; then # clang defines nothing for these
    refused -funsafe-math-optimizations
    refused -freciprocal-math
    refused -fno-signed-zeros
fi
if [ "$(uname -m)" = x86_64 ]; then
    refused -m32 -march=i686 -mno-sse
    guard -m32 -march=i686 -msse2 -mfpmath=sse || fail '32-bit x86 with SSE2 is refused'
fi
sources=("$core"/*/*.c)
for source in "${sources[@]}"; do
    said=$("$cc" -ffast-math -fsyntax-only -DNORMCORE_DTYPE=32 -DNORMCORE_ISA=scalar -DNORMCORE_ISA_HEADER='"scalar.h"' \
        -I "$core" -I "$root/include" "$source" 2>&1) && fail "$(basename "$source") compiles with -ffast-math"
    grep -q 'normcore: -ffast-math breaks' <<<"$said" || fail "$(basename "$source") does not include the guards"
done
printf '%-34s refused by each of %d sources\n' -ffast-math "${#sources[@]}"

# Contraction, by a compiler that has the last word on its options.
printf '#!/bin/sh\nexec %s "$@" -ffp-contract=fast\n' "$cc" >"$work/contracting-cc"
chmod +x "$work/contracting-cc"
[ -e "$work/contracted/build.ninja" ] ||
    CC=$work/contracting-cc meson setup "$work/contracted" "$root" -Dpython=disabled -Doptimization=2 >"$work/log"
ninja -C "$work/contracted" digests/normcore-digests >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
digests=$work/contracted/digests/normcore-digests
caught=0
for isa in $("$digests" --isas); do
    [ "$isa" != scalar ] || continue # its machine code has no fma to contract to on x86-64
    status=0
    said=$("$digests" --isa "$isa" --quick "$expected") || status=$?
    [ "$status" = 1 ] || fail "the digests of a contracted build are right on $isa"
    printf '%-34s caught: %s\n' "-ffp-contract=fast, digests" "$(tail -n 1 <<<"$said")"
    caught=1
done
if [ $caught = 1 ]; then
    status=0
    said=$("$digests" --selftest) || status=$?
    [ "$status" = 1 ] || fail 'the self-test of a contracted build passes'
    printf '%-34s caught: %s\n' '-ffp-contract=fast, self-test' "$said"
else
    printf '%-34s no instruction set here has fma to contract to\n' -ffp-contract=fast
fi

# A library of somebody else's, linked with -ffast-math, which flushes subnormals in the whole process.
digests=${2:-}
if [ -z "$digests" ]; then
    [ -e "$work/sound/build.ninja" ] ||
        CC=$cc meson setup "$work/sound" "$root" -Dpython=disabled -Doptimization=2 >"$work/log"
    ninja -C "$work/sound" digests/normcore-digests >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
    digests=$work/sound/digests/normcore-digests
fi
echo 'int nothing_in_here;' >"$work/fast_math.c"
if gcc -ffast-math -shared -fPIC "$work/fast_math.c" -o "$work/fast_math.so" &&
    LD_PRELOAD=$work/fast_math.so "$digests" --flushed --isas >/dev/null 2>&1; then
    said=$(LD_PRELOAD=$work/fast_math.so "$digests" --flushed "$expected") || fail "a fast-math library changes bits: $said"
    printf '%-34s without effect, MXCSR put back: %s\n' 'a -ffast-math shared library' "$said"
else
    # gcc 13 no longer links crtfastmath.o into shared libraries.
    printf '%-34s does not flush subnormals with this compiler\n' 'a -ffast-math shared library'
fi
said=$("$digests" --selftest) || fail "the self-test of a sound build: $said"
printf '%-34s %s\n' 'a sound build, self-test' "$said"
