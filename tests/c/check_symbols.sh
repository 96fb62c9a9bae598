#!/bin/sh
# Usage: check_symbols.sh NM SIZE LIBRARY SHARED CORE HEADER COMPILER...   SHARED is empty where none can be linked.
#
# In a static archive every global name is visible to whoever links it: here just the functions of the header and the names
# that the core's own headers declare, which all begin with normcore_. A shared library made of the same sources with
# NORMCORE_API exports just the functions of the header. Data that can be written are few: no mutable globals.
set -eu

nm=$1
size=$2
library=$3
shared=$4
core=$5
header=$6
shift 6
most_writable=64

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export LC_ALL=C
names() { awk 'NF == 3 { print $3 }' | sort -u; }
# differ FILE FILE TEXT: fails if the first file has lines that the second has not.
differ() {
    comm -23 "$1" "$2" >"$work/difference"
    if [ -s "$work/difference" ]; then
        echo "$3" >&2
        cat "$work/difference" >&2
        exit 1
    fi
}

"$(dirname "$0")/public_names.sh" "$header" "$@" >"$work/public"
count=$(wc -l <"$work/public")
if [ "$count" -ne "$(grep -c '^NORMCORE_API ' "$header")" ] || [ "$count" -lt 50 ]; then
    echo "$count functions found in $header, which declares another number" >&2
    exit 1
fi

"$nm" -g --defined-only "$library" | names >"$work/archive"
differ "$work/public" "$work/archive" "declared in normcore.h and not in $library:"
{
    cat "$work/public"
    grep -ho 'normcore_[a-z0-9_]*' "$core"/*/*.h
    grep -ho 'NAME(normcore_[a-z0-9_]*)' "$core"/*/*.h | sed 's/NAME(\(.*\))/\1_f32\n\1_f64/'
    grep '^normcore_kernels_f\(32\|64\)_[a-z0-9]*$' "$work/archive" # KERNEL_TABLE(dtype, isa) of dispatch.h
} | sort -u >"$work/declared"
differ "$work/archive" "$work/declared" "global names of $library that no header declares:"

if [ -n "$shared" ]; then
    "$nm" -D --defined-only "$shared" | names >"$work/exported"
    differ "$work/public" "$work/exported" "declared in normcore.h and not exported by $shared:"
    differ "$work/exported" "$work/public" "exported by $shared and not declared in normcore.h:"
else
    echo "no shared library here: linked with -static"
fi

# .data.rel.ro is written by the loader alone; .tdata and .tbss would be thread-local state, of which there is none either.
writable=$("$size" -A "$library" | awk '
    $1 ~ /^\.(data|bss|tdata|tbss)(\.|$)/ && $1 !~ /^\.data\.rel\.ro/ { sum += $2; seen = 1 }
    END { if (!seen) exit 1; print sum }')
if [ "$writable" -gt "$most_writable" ]; then
    echo "$writable bytes of writable data, more than $most_writable:" >&2
    "$nm" -S --defined-only "$library" | grep -i ' [bd] ' >&2 || true
    exit 1
fi
echo "$count functions, $(wc -l <"$work/archive") global names, $writable bytes of writable data"
