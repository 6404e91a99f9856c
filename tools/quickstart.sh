#!/usr/bin/env bash
# From a fresh clone to a trained and scored teacher and student, on a machine without a GPU too:
#
#     bash tools/quickstart.sh [--fresh]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CIBA_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
bash "$root/tools/setup.sh"
exec "$venv/bin/python" "$root/tools/quickstart.py" "$@"
