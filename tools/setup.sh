#!/usr/bin/env bash
# Make the project's virtual environment, or bring an existing one up to date. Compiles nothing.
#
#     bash tools/setup.sh
#
# Safe to repeat (a complete environment is recognised in a moment), to interrupt and to run twice
# at once. Variables that change what it does:
#   CIBA_VENV             folder of the virtual environment (default: .venv in this checkout)
#   CIBA_PYTHON           the Python, 3.10 to 3.13, to build it from (default: the first of
#                         python3, python3.11, 3.12, 3.13 and 3.10)
#   CIBA_TORCH_INDEX_URL  package index that torch alone is installed from. The ordinary index serves
#                         the build for NVIDIA GPUs on Linux, gigabytes larger than the CPU build:
#                         without a GPU, give the address of the CPU index from PyTorch's install page
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CIBA_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
stamp=$venv/.ciba-bev-setup
torch_version=2.13.0
uv_version=0.13.9
log=

say() { printf '[setup %4ds] %s\n' "$SECONDS" "$*"; }

fail() {
    printf '\n[setup] STOPPED: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '[setup] %s\n' "$@" >&2
    exit 1
}

# Everything that decides what ends up in the environment.
fingerprint() {
    (cd "$root" && cat tools/setup.sh setup.py pyproject.toml requirements/*.txt \
        projects/mmcv_operators/{setup.py,pyproject.toml} && printf '%s\n' "$root") |
        sha256sum | cut -d' ' -f1
}

exit_if_complete() {
    [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$(fingerprint)" ]] || return 0
    say "the environment $venv is complete"
    exit
}

# run PURPOSE COMMAND...: quiet while it works; says what went wrong, and what to do, when not.
run() {
    local purpose=$1
    shift
    "$@" >"$log" 2>&1 && return
    tail -n 15 "$log" >&2
    if grep -qiE 'no space left on device|os error 28' "$log"; then
        fail "the disk filled up while $purpose." \
            "Free some space in $venv, ${TMPDIR:-/tmp} and ~/.cache, then run this command again."
    elif grep -qi 'permission denied\|read-only file system' "$log"; then
        fail "a folder cannot be written to (while $purpose; the lines above name it)." \
            'Name other places in CIBA_VENV, TMPDIR, or UV_CACHE_DIR and PIP_CACHE_DIR for the caches.'
    elif grep -qiE 'connection|timed out|name resolution|dns error|unreachable|proxy|ssl|certificate' "$log"; then
        fail "the package index cannot be reached (while $purpose)." \
            'Check the network, or name an index that can be reached: pip config, PIP_INDEX_URL.'
    fi
    fail "$purpose failed; the end of the output is above."
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

sees_gpu() { "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1; }

is_supported() {
    "$1" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

make_venv() {
    if [[ -e $venv && ! -f $venv/pyvenv.cfg && -n $(ls -A "$venv" 2>/dev/null) ]]; then
        fail "$venv exists and is no virtual environment." 'Move it away, or choose another CIBA_VENV.'
    fi
    local python candidates=(python3 python3.{11,12,13,10})
    [[ -z ${CIBA_PYTHON:-} ]] || candidates=("$CIBA_PYTHON")
    for python in "${candidates[@]}" ''; do
        [[ -n $python ]] || fail "there is no Python 3.10 to 3.13 with its venv module (tried: ${candidates[*]})." \
            'Install one (Debian, Ubuntu: apt-get install python3-venv), or name one in CIBA_PYTHON.'
        ! is_supported "$python" || break
    done
    say "making the virtual environment $venv with $(command -v "$python")"
    run 'making the virtual environment' "$python" -m venv --clear "$venv"
    if has_gpu && sees_gpu "$python"; then
        # This torch is the user's choice and works on the GPU.
        local parent
        parent=$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])')
        say "keeping the torch in $parent"
        # A path file instead of --system-site-packages: it also reaches the packages of a parent
        # that is itself a virtual environment, and comes last, so pinned versions win.
        printf '%s\n' "$parent" >"$("$venv/bin/python" -c \
            'import sysconfig; print(sysconfig.get_path("purelib"))')/parent_environment.pth"
    fi
}

install_packages() {
    local sparse=cpu
    ! has_gpu || sparse=gpu
    local pins=("${again[@]}" -r "$root/requirements/pinned.txt" -r "$root/requirements/$sparse.txt")
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --retries 2 install)
    say 'installing the pinned packages'
    ! compgen -G "$venv/lib/python*/site-packages/mmcv-[0-9]*" >/dev/null || fail \
        "$venv has mmcv; mmcv-lite, which is installed here, would replace its files." \
        "$venv/bin/python -m pip uninstall -y mmcv mmcv-lite, then run this command again."
    # uv unpacks wheels several times faster than pip, but does not read pip's configuration.
    if ! { "${pip[@]}" "uv==$uv_version" && "$venv/bin/uv" pip install --python "$venv/bin/python" \
        --system-certs --no-deps "${pins[@]}"; } >"$log" 2>&1; then
        say 'uv could not install them; trying pip'
        run 'installing the pinned packages' "${pip[@]}" --no-deps "${pins[@]}"
    fi
    if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        local index=()
        [[ -z ${CIBA_TORCH_INDEX_URL:-} ]] || index=(--index-url "$CIBA_TORCH_INDEX_URL")
        say "installing torch $torch_version (about half a minute for the CPU build, more for the GPU build)"
        run 'installing torch' "${pip[@]}" "${index[@]}" "torch==$torch_version"
    fi
    if has_gpu && ! sees_gpu "$venv/bin/python"; then
        say 'WARNING: there is a GPU, but torch cannot use it. The driver may be too old for this torch:'
        say 'install the build for your driver from PyTorch'\''s install page, then run this again.'
    fi
    say 'installing the project'
    run 'installing the project' "${pip[@]}" --no-deps --no-build-isolation \
        -e "$root/projects/mmcv_operators" -e "$root"
}

main() {
    exit_if_complete
    mkdir -p "$(dirname "$venv")" 2>/dev/null && [[ -w $(dirname "$venv") ]] || fail \
        "$(dirname "$venv") cannot be written to." 'Name another place in CIBA_VENV.'
    log=$(mktemp "${TMPDIR:-/tmp}/ciba-bev-setup-XXXXXX")
    trap 'rm -f "$log"' EXIT
    exec 9>"$venv.lock"
    flock -n 9 || { say "another setup of $venv is running: waiting for it"; flock 9; }
    exit_if_complete
    local again=()
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        make_venv
    elif [[ ! -f $stamp ]]; then
        # An earlier run did not end: what it installed last may have half of its files.
        again=(--force-reinstall)
    fi
    rm -f "$stamp"
    install_packages
    (cd / && "$venv/bin/python" -W ignore -c 'import mmcv.ops, mmdet3d.models, ciba_bev') || fail \
        'the installed packages cannot be imported; the reason is above.'
    fingerprint >"$stamp.partial"
    mv "$stamp.partial" "$stamp"
    say "ready: source $venv/bin/activate"
}

main "$@"
