#!/bin/sh
# Usage: public_names.sh HEADER COMPILER...
#
# The functions that the header declares, one a line, sorted.
set -eu

header=$1
shift
"$@" -E -P -DNORMCORE_API=PUBLIC_FUNCTION "$header" | tr '\n;' ' \n' |
    sed -n 's/.*PUBLIC_FUNCTION [^(]*[ *]\(normcore_[a-z0-9_]*\) *(.*/\1/p' | LC_ALL=C sort
