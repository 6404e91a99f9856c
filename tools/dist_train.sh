#!/usr/bin/env bash
# Train on several GPUs or processes; see distributed.sh for what it takes from the environment.
#
#     bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
set -euo pipefail

usage="usage: $0 CONFIG PROCESSES [arguments of tools/train.py]"
config=${1:?$usage}
processes=${2:?$usage}
# What an interrupted training tells the user to type.
CIBA_COMMAND=$(printf '%q ' bash "$0" "$@")
export CIBA_COMMAND
shift 2

source "$(dirname "${BASH_SOURCE[0]}")/distributed.sh"
launch "$processes" train.py "$config" "$@"
