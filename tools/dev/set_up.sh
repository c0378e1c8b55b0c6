#!/usr/bin/env bash
# Copyright (c) mmdynperceiver contributors. All rights reserved.
# Set up .venv in the checkout with the pinned reference stack, by uv.
# Usage: [PYTHON=/path/to/python] [TORCH_INDEX=URL] tools/dev/set_up.sh demo|test
#
# 'demo' needs no compiler. 'test' adds mmaction2, mmdet and the tools, and
# replaces mmcv-lite by mmcv with compiled operators. What is installed stays:
# an interrupted run goes on where it stopped, and a run with nothing to do
# takes a moment. TORCH_INDEX is one more index to find torch in, such as
# PyTorch's for CPUs, whose wheels need no CUDA libraries.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
profile=$1
python=.venv/bin/python
again='run the same command again, it goes on where it stopped'
trap 'echo "Interrupted; $again." >&2; exit 130' INT TERM

# Settings that would send packages elsewhere, or take modules from elsewhere.
unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER \
    PIP_REQUIRE_HASHES PIP_NO_DEPS PIP_CONSTRAINT
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
    echo "Error: $*" >&2
    exit 1
}

versions=' 3.10 3.11 3.12 '  # mmcv 2.1.0 cannot be built with a later one
[ "$profile" = test ] || versions+='3.13 3.14 '

version() {  # of a Python, as 3.11; nothing if it does not run
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
        2>/dev/null || true
}

find_python() {  # 3.11 first: it is what the pins were tested with most
    local candidate is why=', and none was found'
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3.13 \
                      python3.14 python3 python}; do
        is=$(version "$candidate")
        if [ -n "$is" ] && [[ $versions != *" $is "* ]]; then
            why=", $candidate is $is"
        elif [ -n "$is" ] && "$candidate" -c 'import ensurepip' 2>/dev/null
        then
            echo "$candidate"
            return
        elif [ -n "$is" ]; then
            why=", $candidate ($is) is without it"
        fi
    done
    fail "One of Python${versions}with venv is needed$why. Install it" \
        '(Debian/Ubuntu: apt install python3.11 python3.11-venv' \
        "python3.11-dev), or name one: make $profile PYTHON=/path/to/python"
}

fits() {  # whether .venv has a Python as it is wanted
    local is
    is=$(version $python)
    [[ $versions == *" ${is:-none} "* &&
        ( -z ${PYTHON:-} || $is == "$(version "$PYTHON")" ) ]]
}

make_venv() {
    local base free
    base=$(find_python)
    [ ! -e .venv ] || [ -e .venv/pyvenv.cfg ] || fail \
        'there is a .venv that is no virtual environment; move it away'
    free=$(df -Pk . | awk 'NR == 2 {print int($4 / 1e6)}')
    [ "$free" -ge 8 ] || fail "about 8 GB of free disk are needed in $PWD," \
        "$free GB are free; free some, or clone to a larger disk"
    echo "Making .venv with Python $(version "$base")"
    rm -rf .venv
    "$base" -m venv .venv
}

get_uv() {
    local uv
    uv=$(sed -n 's/^uv==/uv /p' requirements/constraints.txt)
    $python -m pip --version >/dev/null 2>&1 || $python -m ensurepip
    [[ $(.venv/bin/uv --version 2>/dev/null) == "$uv "* ]] ||
        $python -m pip install -qq --retries 2 \
            -c requirements/constraints.txt uv || fail \
        'uv could not be installed, see above; if it is the network, check' \
        "it and the proxy (HTTPS_PROXY, pip config list), then $again"
}

pip_setting() {  # of the environment or else of a file: uv reads neither
    local section
    for section in :env: install global; do
        sed -nE "s/^$section\.$1='(.*)'$/\1/p" <<<"$settings"
    done | sed -n '1{s/\\n/ /g;p;}'
}

state="$PWD ${FORCE_CUDA:-} ${TORCH_INDEX:-} $(cat requirements/* setup.py \
    mmdynperceiver/version.py | cksum)"
if fits && [ -e mmdynperceiver/.mim ] && [ -e .venv/.ready ] &&
    [[ $(<.venv/.ready) == @(test|"$profile")" $state" ]]; then
    echo ".venv is ready for $profile (Python $(version $python))."
    exit
fi
fits || make_venv
rm -f .venv/.ready
# What a killed installation left: pip writes RECORD last, uv INSTALLER.
for folder in .venv/lib/python3*/site-packages/*.dist-info; do
    [ -e "$folder/RECORD" ] && [ -e "$folder/INSTALLER" ] || rm -rf "$folder"
done
get_uv

settings=$($python -m pip config list)
# As pip does: the best version of all indexes.
options=(--index-strategy unsafe-best-match)
for name in index-url extra-index-url find-links trusted-host; do
    for value in $(pip_setting $name); do
        options+=("--$name" "$value")
    done
done
[[ ! $(pip_setting no-index) =~ ^(1|[Tt]rue|yes|on)$ ]] || options+=(--no-index)
[ -z "${TORCH_INDEX:-}" ] || options+=(--extra-index-url "$TORCH_INDEX")
certificates=${SSL_CERT_FILE:-$(pip_setting cert)}
[ -z "$certificates" ] || export SSL_CERT_FILE=$certificates

install() {
    .venv/bin/uv pip install --python $python -c requirements/constraints.txt \
        --excludes requirements/excludes.txt \
        --overrides requirements/overrides.txt "${options[@]}" "$@" || fail \
        "see above for what is wrong, then $again"
}

installed() {  # whether a distribution is in .venv
    compgen -G ".venv/lib/python3*/site-packages/$1-[0-9]*.dist-info" \
        >/dev/null
}

if [ "$profile" = test ]; then
    install -r requirements/dev.txt
    wheel=$($python tools/dev/build_mmcv.py)
    # Both install the module mmcv: the other must go first.
    ! installed mmcv_lite || .venv/bin/uv pip uninstall --python $python \
        mmcv-lite
    install --no-deps "$wheel"
elif installed mmcv; then  # it can do all of mmcv-lite
    install -r requirements/demo.txt
else
    install -r requirements/demo.txt mmcv-lite
fi
install --no-deps --no-build-isolation -e .
echo "$profile $state" >.venv/.ready
echo ".venv is ready for $profile (Python $(version $python))."
