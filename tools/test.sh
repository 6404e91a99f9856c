#!/usr/bin/env bash
# Set everything up, then check style, types and documentation and run the tests. Arguments go to
# pytest:
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
"$venv/bin/mypy"
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
NO_MKDOCS_2_WARNING=1 "$venv/bin/mkdocs" build --strict --quiet --site-dir "$site"
# A process a core, each on one thread.
OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
