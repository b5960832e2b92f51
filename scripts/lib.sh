# shellcheck shell=bash
# Shared by scripts/demo, scripts/test and .ci/run: what they need from the machine, and how they get it.

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND PACKAGE: notes PACKAGE for install_missing if COMMAND is not there.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }

install_missing() {
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null 2>&1 || die "please install these (or your system's equivalents) and run me again: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || die "please run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing with apt-get: ${missing[*]}"
  # A machine that has just started may be at it itself, and a mirror may be busy.
  local patient=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=5)
  "${as_root[@]}" apt-get "${patient[@]}" update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "${patient[@]}" install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
  missing=()
}

need_build_tools() {
  # Where rustup has put it, if this shell does not know yet.
  if ! command -v cargo >/dev/null 2>&1 && [ -f "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    # shellcheck disable=SC1091
    . "${CARGO_HOME:-$HOME/.cargo}/env"
  fi
  command -v cargo >/dev/null 2>&1 || die "cargo is missing: install Rust from https://rustup.rs (1.94.1 or later)"
  # gcc alone only recommends the C library's headers.
  need cc gcc
  need cc libc6-dev
  # aws-lc (TLS) is C and is built with nothing but the compiler.
  need fusermount3 fuse3
}

need_fuse() {
  [ -e /dev/fuse ] || die "/dev/fuse is missing: 'modprobe fuse', or start the container with --device /dev/fuse --cap-add SYS_ADMIN"
  if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
    die "/dev/fuse is not open to $(id -un) ($(stat -c %A /dev/fuse)): run me as root, or 'sudo chmod 666 /dev/fuse'"
  fi
}
