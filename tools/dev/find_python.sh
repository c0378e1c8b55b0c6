#!/usr/bin/env bash
# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Print a Python that can make the environment, or say what is missing.
# Usage: find_python.sh [PYTHON]; an explicit PYTHON is the only candidate.
set -u

usable='import sys, venv, ensurepip
sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else 1)'

if [ -n "${1:-}" ]; then
    candidates=("$1")
else
    # 3.11 is what the pins were tested with most
    candidates=(python3.11 python3.12 python3.10 python3.13 python3 python)
fi

for candidate in "${candidates[@]}"; do
    if "$candidate" -c "$usable" >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done

why='not found'
for candidate in "${candidates[@]}"; do
    found=$("$candidate" -c 'import sys
print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case "$found" in
        3.1[0-3])
            why="found $candidate ($found) without the module venv"
            break ;;
        *) why="found $candidate, which is $found" ;;
    esac
done
echo "Error: Python 3.10 to 3.13 with venv is needed, $why. Install it" \
    "(Debian/Ubuntu: apt install python3.11 python3.11-venv" \
    "python3.11-dev), or name one: make PYTHON=/path/to/python" >&2
exit 1
