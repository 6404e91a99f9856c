#!/usr/bin/env bash
# Score a checkpoint on several GPUs or processes; see distributed.sh for what it takes from the
# environment.
#
#     bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
set -euo pipefail

usage="usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]"
config=${1:?$usage}
checkpoint=${2:?$usage}
processes=${3:?$usage}
shift 3

source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
launch "$processes" test.py "$config" "$checkpoint" "$@"
