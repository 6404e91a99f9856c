#!/usr/bin/env bash
# Score a checkpoint on several GPUs or processes.
#
#     bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
#
# One process for each GPU; without a GPU as many processes on the CPU, joined by gloo. Several
# machines: run it on each with the same NNODES, MASTER_ADDR and PORT, and its own NODE_RANK.
set -euo pipefail

usage="usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]"
config=${1:?$usage}
checkpoint=${2:?$usage}
processes=${3:?$usage}
shift 3
nodes=${NNODES:-1}
node_rank=${NODE_RANK:-0}
address=${MASTER_ADDR:-127.0.0.1}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# An active environment is the user's choice; otherwise the one that tools/setup.sh made.
python=${CIBA_VENV:-$root/.venv}/bin/python
[[ -z ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} && -x $python ]] || python=python
# Two jobs on one machine must not meet on the same port; several machines have to agree on one.
if [[ -z ${PORT:-} ]]; then
    PORT=29500
    ((nodes > 1)) || PORT=$("$python" -c \
        'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
fi
if [[ -z ${OMP_NUM_THREADS:-} ]]; then
    threads=$(($(nproc) / processes))
    export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
fi

exec "$python" -m torch.distributed.run --nnodes "$nodes" --node_rank "$node_rank" \
    --master_addr "$address" --master_port "$PORT" --nproc_per_node "$processes" \
    "$root/tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
