#!/bin/sh
# Usage: check_headers.sh CORE COMPILER...
#
# Compiles the headers that depend on the target as other targets would have them: with other ways to evaluate floats,
# and with a <fenv.h> that has every rounding mode, one, or none. Nothing is run.
set -eu

core=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Takes the place of <float.h>.
mkdir "$work/float"
cat >"$work/float/float.h" <<'END'
#include_next <float.h>
#undef FLT_EVAL_METHOD
#define FLT_EVAL_METHOD EVALUATION
END
echo '#include "numeric/guards.h"' >"$work/guards.c"

compiles() { "$@" -fsyntax-only >"$work/said" 2>&1; }
failed() {
    echo "$*" >&2
    cat "$work/said" >&2
    exit 1
}

for standard in c99 gnu99 gnu11; do
    for method in 0 16; do
        compiles "$@" -std=$standard -DEVALUATION=$method -I "$work/float" -I "$core" "$work/guards.c" ||
            failed "guards.h refuses FLT_EVAL_METHOD $method, -std=$standard"
    done
    for method in -1 1 2; do
        if compiles "$@" -std=$standard -DEVALUATION=$method -I "$work/float" -I "$core" "$work/guards.c"; then
            failed "guards.h accepts FLT_EVAL_METHOD $method, -std=$standard"
        fi
        grep -q 'normcore: excess precision' "$work/said" || failed "FLT_EVAL_METHOD $method: not refused by the guard"
    done
    # The machine of which 16 is known.
    if echo 'int x;' >"$work/empty.c" && compiles "$@" -march=sapphirerapids "$work/empty.c"; then
        compiles "$@" -std=$standard -march=sapphirerapids -I "$core" "$work/guards.c" ||
            failed "guards.h refuses -march=sapphirerapids, -std=$standard"
    fi
done

# Takes the place of <fenv.h>, on a target that fp_environment.h has no case for.
mkdir "$work/fenv"
cat >"$work/fenv/fenv.h" <<'END'
#if MODES >= 1
#define FE_TONEAREST 0
#endif
#if MODES >= 2
#define FE_UPWARD 1
int fegetround(void);
int fesetround(int);
#endif
END
cat >"$work/environment.c" <<'END'
#include "numeric/fp_environment.h"
double twice(double x);
double twice(double x) {
    const fp_environment saved = fp_environment_enter();
    x += x;
    fp_environment_leave(saved);
    return x;
}
END
for modes in 0 1 2; do
    compiles "$@" -std=c99 -Wall -Wextra -Werror -U__SSE__ -U__aarch64__ -U__arm__ -DMODES=$modes \
        -I "$work/fenv" -I "$core" "$work/environment.c" ||
        failed "fp_environment.h does not compile where <fenv.h> has $modes rounding modes"
done
echo "guards.h: 0 and 16 accepted, -1, 1 and 2 refused; fp_environment.h: none, one and all rounding modes"
