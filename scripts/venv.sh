# shellcheck shell=sh
# Sourced by scripts/demo and scripts/test: goes to the project's root and has a .venv there that fits.
#
#   use_venv core     the package as its users have it
#   use_venv test     with the tools of scripts/test as well
#
# PYTHON names the interpreter; without it the first on the PATH that is new enough is taken. A .venv is made anew when
# pyproject.toml, constraints.txt, the interpreter or the project's place has changed, and when it was left half made.

script=scripts/${0##*/}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P) || exit 1

die() {
    printf '%s: %s\n' "$script" "$1" >&2
    exit 1
}

# Prints what a fitting .venv is stamped with and, should this be a .venv's Python, the one underneath. The syntax must
# pass in Python 2, so that an old interpreter gets as far as the comparison.
probe='
import sys
if sys.version_info < (3, 11):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
import hashlib, os
root = sys.argv[1]
digest = hashlib.sha256(repr((root, sys.version)).encode())
for name in ("pyproject.toml", "scripts/constraints.txt"):
    with open(os.path.join(root, name), "rb") as file:
        digest.update(file.read())
print(digest.hexdigest())
print(getattr(sys, "_base_executable", None) or sys.executable)
'

# Sets stamp and python.
find_python() {
    problem="found no Python 3.11 or newer; install one, or name it: PYTHON=/path/to/python3 $script"
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3 python3.14 python3.13 python3.12 python3.11 python
    fi
    for candidate in "$@"; do
        answer=$("$candidate" -c "$probe" "$root" 2>/dev/null) && status=0 || status=$?
        case $status in
        0)
            stamp=$(printf '%s\n' "$answer" | sed -n 1p)
            python=$(printf '%s\n' "$answer" | sed -n 2p)
            [ -z "$python" ] || return 0
            problem="$candidate does not run as Python; name a Python 3.11 or newer: PYTHON=/path/to/python3 $script"
            ;;
        3) [ -z "${PYTHON:-}" ] || problem="$PYTHON is older than Python 3.11; name a newer one, or leave PYTHON unset" ;;
        4) problem="$candidate has no venv and ensurepip; install them (Debian, Ubuntu: apt install python3-venv)" ;;
        *) [ -z "${PYTHON:-}" ] || problem="PYTHON=$PYTHON does not run as Python; name a Python 3.11 or newer" ;;
        esac
    done
    die "$problem"
}

is_fresh() {
    [ "$(cat ".venv/.stamp-$1" 2>/dev/null)" = "$stamp" ] && .venv/bin/python -c '' 2>/dev/null
}

# The stamps go first and come back last: whatever stops this in between, the next call notices.
fill_venv() {
    is_fresh core && keep=yes || keep=no
    rm -f .venv/.stamp-core .venv/.stamp-test
    if [ "$keep" = yes ]; then
        printf '%s: adding the tools of scripts/test to .venv\n' "$script" >&2
    else
        printf '%s: making .venv with %s; this takes a minute or two\n' "$script" "$python" >&2
        rm -rf .venv
        "$python" -m venv .venv || die "$python cannot make a virtual environment; its lines above say why"
    fi
    case $1 in core) project=. ;; *) project=".[$1]" ;; esac
    .venv/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
        --constraint scripts/constraints.txt --editable "$project" ||
        die "pip could not install the project; its lines above say why. Run $script again once that is mended"
    printf '%s\n' "$stamp" >.venv/.stamp-core
    [ "$1" = core ] || printf '%s\n' "$stamp" >".venv/.stamp-$1"
}

use_venv() {
    find_python
    cd "$root" || exit 1
    is_fresh "$1" && return
    # Where there is flock, a second call waits for the first and then finds its .venv fresh.
    exec 9>.venv.lock
    ! command -v flock >/dev/null 2>&1 || flock 9
    is_fresh "$1" || fill_venv "$1"
    exec 9>&-
}
