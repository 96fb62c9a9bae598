#!/bin/sh
# Usage: check_stack.sh MOST FOLDER
#
# Reads what the compiler says of every function's stack (-fstack-usage: NAME.su beside each object file of the library).
# None may take more than MOST bytes, or as many as its arguments say.
set -eu

most=$1
folder=$2

objects=0
for object in "$folder"/*.p/*.o; do
    objects=$((objects + 1))
    if [ ! -s "${object%.o}.su" ]; then
        echo "nothing in ${object%.o}.su: is it compiled with -fstack-usage?" >&2
        exit 1
    fi
done
if [ $objects -lt 10 ]; then
    echo "$objects object files in $folder: is this the library?" >&2
    exit 1
fi
cat "$folder"/*.p/*.su | awk -F '\t' -v most=$most '
    $2 > most { printf "%s: %d bytes of stack, more than %d\n", $1, $2, most; bad = 1 }
    $3 == "dynamic" { printf "%s: as much stack as its arguments say\n", $1; bad = 1 }
    $2 > largest { largest = $2; name = $1 }
    END {
        printf "%d functions, at most %d bytes of stack: %s\n", NR, largest, name
        exit bad
    }'
