#!/usr/bin/env bash
# Prints the first Python 3.11 or 3.12 that can make a virtual environment; says in one line what is missing if there is none.
set -euo pipefail

fits='import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))'
without_venv=
for python in python3.11 python3.12 python3 python; do
    "$python" -c "$fits" 2>/dev/null || continue
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python"
        exit 0
    fi
    without_venv=${without_venv:-$python}
done

if [ -n "$without_venv" ]; then
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "setup: $without_venv cannot make a virtual environment: sudo apt-get install python$version-venv" >&2
else
    echo "setup: Python 3.11 or 3.12 is needed and neither is on PATH: sudo apt-get install python3.11 python3.11-venv" \
        "(or python3.12 ...), or name one: make setup PYTHON=/path/to/python3.11" >&2
fi
exit 1
