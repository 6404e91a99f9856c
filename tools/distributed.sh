# Sourced by dist_train.sh and dist_test.sh: one process for each GPU; without a GPU as many
# processes on the CPU, joined by gloo. Several machines: run the same command on each with the same
# NNODES, MASTER_ADDR and PORT, and its own NODE_RANK.
#
#     launch PROCESSES SCRIPT [ARGUMENTS]
launch() {
    local processes=$1 script=$2
    shift 2
    local nodes=${NNODES:-1} root python port threads
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    # An active environment is the user's choice; otherwise the one that tools/setup.sh made.
    python=${CIBA_VENV:-$root/.venv}/bin/python
    [[ -z ${VIRTUAL_ENV:-}${CONDA_PREFIX:-} && -x $python ]] || python=python
    # Two jobs on one machine must not meet on the same port; several machines have to agree on one.
    port=${PORT:-29500}
    if [[ -z ${PORT:-} ]] && ((nodes == 1)); then
        port=$("$python" -c \
            'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
    fi
    if [[ -z ${OMP_NUM_THREADS:-} ]]; then
        threads=$(($(nproc) / processes))
        export OMP_NUM_THREADS=$((threads > 0 ? threads : 1))
    fi
    exec "$python" "$root/tools/launch.py" --nnodes "$nodes" --node_rank "${NODE_RANK:-0}" \
        --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "$port" \
        --nproc_per_node "$processes" "$root/tools/$script" "$@" --launcher pytorch
}
