#!/bin/sh
# Usage: check_symbols.sh NM SIZE LIBRARY
#
# In a static archive every global name is visible to whoever links it, so each begins with normcore_. Data that can be
# written are the dispatch pointer and little else: no mutable globals.
set -eu

nm=$1
size=$2
library=$3
most_writable=256

names=$("$nm" -g --defined-only "$library" | awk 'NF == 3 { print $3 }' | sort -u)
if [ "$(printf '%s\n' "$names" | grep -c '^normcore_')" -lt 50 ]; then
    echo "fewer than 50 global names in $library: is this the library?" >&2
    exit 1
fi
foreign=$(printf '%s\n' "$names" | grep -v '^normcore_' || true)
if [ -n "$foreign" ]; then
    echo "global names without the prefix normcore_:" >&2
    printf '%s\n' "$foreign" >&2
    exit 1
fi

# Every function of the header is there.
for name in normcore_version normcore_affine_forward_f32 normcore_affine_forward_f64 normcore_mlp_loss_and_grads_f32; do
    if ! printf '%s\n' "$names" | grep -qx "$name"; then
        echo "$name is missing from $library" >&2
        exit 1
    fi
done

# .data.rel.ro is written by the loader alone; .tdata and .tbss would be thread-local state, of which there is none either.
writable=$("$size" -A "$library" | awk '
    $1 ~ /^\.(data|bss|tdata|tbss)(\.|$)/ && $1 !~ /^\.data\.rel\.ro/ { sum += $2; seen = 1 }
    END { if (!seen) exit 1; print sum }')
if [ "$writable" -gt "$most_writable" ]; then
    echo "$writable bytes of writable data, more than $most_writable:" >&2
    "$nm" -S --defined-only "$library" | grep -i ' [bd] ' >&2 || true
    exit 1
fi
echo "$(printf '%s\n' "$names" | wc -l) global names, $writable bytes of writable data"
