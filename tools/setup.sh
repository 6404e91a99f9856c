#!/usr/bin/env bash
# Make the project's virtual environment, or bring an existing one up to date.
#
#     bash tools/setup.sh
#
# Safe to repeat (a complete environment is recognised in a moment), to interrupt and to run twice
# at once. Variables that change what it does:
#   CIBA_VENV             folder of the virtual environment (default: .venv in this checkout)
#   CIBA_PYTHON           the Python 3.11 to build it from (default: see choose_python below)
#   CIBA_TORCH_INDEX_URL  package index that torch alone is installed from. The ordinary index serves
#                         the build for NVIDIA GPUs on Linux, gigabytes larger than the CPU build:
#                         without a GPU, give the address of the CPU index from PyTorch's install page
#   XDG_CACHE_HOME        the compiled mmcv is kept under $XDG_CACHE_HOME/ciba-bev (default: ~/.cache)
#   MAX_JOBS              compilers to run at once while mmcv is built
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${CIBA_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ciba-bev
stamp=$venv/.ciba-bev-setup
torch_version=2.13.0
mmcv_version=2.1.0
mmcv_flags='-g0 -O2'
work=
compilation=

say() { printf '[setup %4ds] %s\n' "$SECONDS" "$*"; }

fail() {
    printf '\n[setup] STOPPED: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '[setup] %s\n' "$@" >&2
    exit 1
}

clean_up() {
    [[ -z $compilation ]] || kill -- "-$compilation" 2>/dev/null || true
    [[ -z $work ]] || rm -rf "$work"
}
trap clean_up EXIT

# Everything that decides what ends up in the environment.
fingerprint() {
    (cd "$root" && cat tools/setup.sh setup.py requirements/*.txt && printf '%s\n' "$root") |
        sha256sum | cut -d' ' -f1
}

is_complete() {
    [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$(fingerprint)" ]]
}

nearest_existing_folder() {
    local folder=$1
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    printf '%s' "$folder"
}

# require_disk FOLDER MEGABYTES PURPOSE REMEDY
require_disk() {
    local free
    free=$(df -Pm "$(nearest_existing_folder "$1")" | awk 'NR == 2 {print $4}')
    ((free >= $2)) || fail "not enough disk space for $3." \
        "$1 has $free MB free, $2 MB are needed." "$4"
}

# run_pip PURPOSE ARGUMENT...: quiet while it works; says what went wrong, and what to do, when not.
run_pip() {
    local purpose=$1 log
    shift
    log=$(mktemp "$work/pip-XXXXXX.log")
    "$venv/bin/python" -m pip --disable-pip-version-check --retries 2 "$@" >"$log" 2>&1 && return
    tail -n 15 "$log" >&2
    if grep -qi 'no space left on device' "$log"; then
        fail "the disk filled up while $purpose." \
            "Free some space in $venv and ${TMPDIR:-/tmp}, then run this command again."
    elif grep -qiE 'connection|timed out|temporary failure in name|unreachable|proxy|ssl' "$log"; then
        fail "the package index cannot be reached (while $purpose)." \
            'Check the network, or point pip at an index it can reach (pip config, PIP_INDEX_URL).'
    elif grep -qi 'no matching distribution' "$log"; then
        fail "the package index has no fitting version of a package (while $purpose)." \
            'Check the index that pip is configured for, and the line above that names the package.'
    fi
    fail "pip failed while $purpose; the end of its output is above."
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

sees_gpu_torch() {
    "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1
}

# The interpreter to build from. With a GPU, the active environment's Python if its torch works on
# that GPU: this torch is the user's choice and is kept. Otherwise python3.11.
choose_python() {
    python=${CIBA_PYTHON:-}
    parent_torch=
    if [[ -z $python ]] && has_gpu && command -v python3 >/dev/null && sees_gpu_torch python3; then
        python=python3
    fi
    python=${python:-python3.11}
    command -v "$python" >/dev/null || fail "there is no $python." \
        'Install Python 3.11 (Debian, Ubuntu: apt-get install python3.11-venv python3.11-dev),' \
        'or name another Python 3.11 in CIBA_PYTHON.'
    local version
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [[ $version == 3.11 ]] || fail "$python is Python $version; the pinned packages are for 3.11." \
        'Name a Python 3.11 in CIBA_PYTHON, or install the plugin into your own OpenMMLab' \
        'environment instead, as the README describes for GPU users.'
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail \
        "$python cannot make virtual environments." \
        'Install its venv module (Debian, Ubuntu: apt-get install python3.11-venv).'
    if has_gpu && sees_gpu_torch "$python"; then
        parent_torch=$("$python" -c 'import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])')
    fi
}

make_venv() {
    if [[ -d $venv ]] && "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        say "using the virtual environment $venv"
        return
    fi
    if [[ -e $venv && ! -f $venv/pyvenv.cfg && -n $(ls -A "$venv" 2>/dev/null) ]]; then
        fail "$venv exists and is no virtual environment." 'Move it away, or choose another CIBA_VENV.'
    fi
    choose_python
    require_disk "$venv" 4000 'the virtual environment' 'Free some space, or choose another CIBA_VENV.'
    say "making the virtual environment $venv with $(command -v "$python")"
    "$python" -m venv --clear "$venv"
    if [[ -n $parent_torch ]]; then
        say "keeping the torch in $parent_torch"
        # A path file instead of --system-site-packages: it also reaches the packages of a parent
        # that is itself a virtual environment, and comes last, so pinned versions win.
        printf '%s\n' "$parent_torch" >"$("$venv/bin/python" -c \
            'import sysconfig; print(sysconfig.get_path("purelib"))')/parent_environment.pth"
    fi
}

install_packages() {
    say 'installing the pinned packages (about a minute)'
    run_pip 'installing the pinned packages' install --no-deps -r "$root/requirements/pinned.txt"
    if "$venv/bin/python" -c 'import torch' 2>/dev/null; then
        return
    fi
    local index=()
    [[ -z ${CIBA_TORCH_INDEX_URL:-} ]] || index=(--index-url "$CIBA_TORCH_INDEX_URL")
    say "installing torch $torch_version (about half a minute for the CPU build, more for the GPU build)"
    run_pip 'installing torch' install "${index[@]}" "torch==$torch_version"
}

# Which compiled mmcv fits: its version, torch's, Python's, the platform and, with CUDA operators,
# the CUDA version and the GPU generation they are compiled for.
describe_mmcv_build() {
    with_cuda=
    if has_gpu && sees_gpu_torch "$venv/bin/python"; then
        if command -v nvcc >/dev/null || [[ -x ${CUDA_HOME:-/usr/local/cuda}/bin/nvcc ]]; then
            with_cuda=1
        else
            say 'WARNING: a GPU but no nvcc: mmcv gets CPU operators only and training on the GPU will'
            say 'fail. Install the CUDA toolkit of your torch and run this again, or use the CPU:'
            say 'export CUDA_VISIBLE_DEVICES='
        fi
    fi
    mmcv_key=$(WITH_CUDA=$with_cuda "$venv/bin/python" - "$mmcv_version" <<'PYTHON'
import os
import sys
import sysconfig

import torch

parts = [f'mmcv-{sys.argv[1]}', f'torch-{torch.__version__}',
         f'python-{sys.version_info[0]}.{sys.version_info[1]}', sysconfig.get_platform()]
if os.environ['WITH_CUDA']:
    generations = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
    parts.append(f'cuda-{torch.version.cuda}')
    parts.extend('sm{}{}'.format(*generation) for generation in sorted(generations))
print('_'.join(parts))
PYTHON
    )
}

require_compiler() {
    local compiler=${CXX:-}
    if [[ -z $compiler ]]; then
        for compiler in c++ g++ clang++ ''; do
            [[ -z $compiler ]] || ! command -v "$compiler" >/dev/null || break
        done
    fi
    [[ -n $compiler ]] && command -v "$compiler" >/dev/null || fail \
        'there is no C++ compiler, which building the operators of mmcv needs.' \
        'Install one (Debian, Ubuntu: apt-get install g++), or name it in CXX.'
    local headers
    headers=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [[ -f $headers/Python.h ]] || fail "there is no $headers/Python.h, which building mmcv needs." \
        'Install the headers of this Python (Debian, Ubuntu: apt-get install python3.11-dev).'
}

# One compiler takes up to 2 GB.
compilers_at_once() {
    local by_memory cores
    by_memory=$(awk '/MemAvailable/ {print int($2 / 2000000)}' /proc/meminfo)
    cores=$(nproc)
    ((by_memory >= 1)) || by_memory=1
    printf '%d' $((by_memory < cores ? by_memory : cores))
}

# Compile mmcv into $work, reporting how far it is twice a minute.
compile_mmcv() {
    local jobs sources folders total objects began left
    jobs=${MAX_JOBS:-$(compilers_at_once)}
    run_pip "fetching mmcv $mmcv_version" download --no-deps --no-binary mmcv \
        --no-build-isolation -d "$work" "mmcv==$mmcv_version"
    tar -xzf "$work/mmcv-$mmcv_version.tar.gz" -C "$work"
    sources=$work/mmcv-$mmcv_version
    folders=("$sources/mmcv/ops/csrc/pytorch" "$sources/mmcv/ops/csrc/pytorch/cpu")
    [[ -z $with_cuda ]] || folders+=("$sources/mmcv/ops/csrc/pytorch/cuda")
    total=$(find "${folders[@]}" -maxdepth 1 \( -name '*.cpp' -o -name '*.cu' \) | wc -l)
    say "compiling the operators of mmcv $mmcv_version on $jobs of $(nproc) cores" \
        "(about 11 minutes on two; kept in $cache for the next time)"
    began=$SECONDS
    (
        cd "$sources"
        export MMCV_WITH_OPS=1 MAX_JOBS=$jobs CFLAGS=$mmcv_flags CXXFLAGS=$mmcv_flags
        [[ -z $with_cuda ]] || export FORCE_CUDA=1
        # A session of its own, so that leaving this script can end all the compilers.
        PATH=$venv/bin:$PATH exec setsid "$venv/bin/python" setup.py bdist_wheel -d "$work/built"
    ) >"$work/mmcv.log" 2>&1 &
    compilation=$!
    while kill -0 "$compilation" 2>/dev/null; do
        for _ in {1..30}; do
            kill -0 "$compilation" 2>/dev/null || break
            sleep 1
        done
        objects=$(find "$sources/build" -name '*.o' 2>/dev/null | wc -l)
        ((objects > 0 && objects < total)) || continue
        left=$(((SECONDS - began) * (total - objects) / objects))
        say "mmcv: $objects of $total files compiled, about $((left / 60 + 1)) min left"
    done
    if ! wait "$compilation"; then
        grep -m 5 -E 'error|Error' "$work/mmcv.log" >&2 || true
        tail -n 20 "$work/mmcv.log" >&2
        ! grep -qi 'no space left on device' "$work/mmcv.log" || fail \
            'the disk filled up while mmcv was compiled.' "Free some space in ${TMPDIR:-/tmp}."
        fail 'compiling mmcv failed; the first errors and the end of its output are above.' \
            'Killed compilers mean too little memory: try again with MAX_JOBS=1.'
    fi
    compilation=
}

install_mmcv() {
    local folder wheels
    describe_mmcv_build
    folder=$cache/$mmcv_key
    mkdir -p "$cache" 2>/dev/null && [[ -w $cache ]] || fail "$cache cannot be written to." \
        'The compiled mmcv is kept there; name another folder in XDG_CACHE_HOME.'
    # Another checkout may need the same wheel at this moment: it waits, then finds it.
    exec 8>"$cache/$mmcv_key.lock"
    flock -n 8 || { say 'another setup is compiling mmcv: waiting for it'; flock 8; }
    wheels=("$folder"/mmcv-*.whl)
    if [[ ! -f ${wheels[0]} ]]; then
        require_compiler
        require_disk "${TMPDIR:-/tmp}" 1500 'compiling mmcv' 'Free some space, or name another TMPDIR.'
        require_disk "$cache" 200 'the compiled mmcv' 'Free some space, or name another XDG_CACHE_HOME.'
        compile_mmcv
        mkdir -p "$work/entry"
        mv "$work"/built/mmcv-*.whl "$work/entry/"
        rm -rf "$folder" "$folder.partial"
        # The temporary folder may be on another disk; the last step must be a rename.
        cp -r "$work/entry" "$folder.partial"
        mv -T "$folder.partial" "$folder"
        wheels=("$folder"/mmcv-*.whl)
    fi
    exec 8>&-
    say "installing mmcv $mmcv_version from $folder"
    run_pip 'installing mmcv' install --no-deps --force-reinstall "${wheels[0]}"
}

main() {
    if is_complete; then
        say "the environment $venv is complete"
        return
    fi
    for tool in flock sha256sum tar; do
        command -v "$tool" >/dev/null || fail "there is no '$tool' command." \
            'It belongs to the base system of any Linux (util-linux, coreutils, tar): install it.'
    done
    mkdir -p "$(dirname "$venv")" 2>/dev/null && [[ -w $(dirname "$venv") ]] || fail \
        "$(dirname "$venv") cannot be written to." 'Name another place in CIBA_VENV.'
    require_disk "${TMPDIR:-/tmp}" 500 'unpacking packages' 'Free some space, or name another TMPDIR.'
    work=$(mktemp -d "${TMPDIR:-/tmp}/ciba-bev-setup-XXXXXX")
    exec 9>"$venv.lock"
    flock -n 9 || { say "another setup of $venv is running: waiting for it"; flock 9; }
    if is_complete; then
        say "the environment $venv is complete"
        return
    fi
    say 'this takes about two minutes, and about 11 more the first time on this machine (mmcv is compiled)'
    make_venv
    rm -f "$stamp"
    install_packages
    install_mmcv
    say 'installing ciba_bev itself'
    run_pip 'installing ciba_bev' install --no-deps --no-build-isolation -e "$root"
    (cd / && "$venv/bin/python" -c 'import mmcv.ops, mmdet3d.models, ciba_bev') || fail \
        'the installed packages cannot be imported; the reason is above.'
    fingerprint >"$stamp.partial"
    mv "$stamp.partial" "$stamp"
    say "ready: source $venv/bin/activate"
}

main "$@"
