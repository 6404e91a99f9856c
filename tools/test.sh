#!/usr/bin/env bash
# Set everything up, then lint and run the tests. Arguments go to pytest:
#
#     bash tools/test.sh [-m 'not slow'] [tests/...]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CIBA_VENV:-$root/.venv}
bash "$root/tools/setup.sh"
[[ $venv == /* ]] || venv=$PWD/$venv
cd "$root"
"$venv/bin/ruff" check
"$venv/bin/ruff" format --check
exec "$venv/bin/python" -m pytest "$@"
