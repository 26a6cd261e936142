# What the stories of tests/guest share: run a command, look at its exit code, its stdout and its stderr, go on.
# shellcheck shell=bash
set -uo pipefail

program=$(realpath "${MINIVM:?set MINIVM to the minivm program}")
assets=${XDG_CACHE_HOME:-$HOME/.cache}/minivm/assets
# Debian's kernel, whatever else lies in the cache.
export MINIVM_KERNEL=${MINIVM_KERNEL:-$assets/kernel/vmlinuz}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1

# An emulated machine that shares its processors with other tests may take long to boot a guest.
minivm=$scratch/minivm
cat >"$minivm" <<END
#!/bin/sh
case \$1 in
run | boot)
  verb=\$1
  shift
  exec "$program" "\$verb" --boot-timeout 400s "\$@"
  ;;
esac
exec "$program" "\$@"
END
chmod +x "$minivm"

failures=0
what='' code=0

# small_root FILE: the default root as an ext4 image of 64 MiB.
small_root() {
  mkdir tree
  (cd tree && cpio -id --quiet <"$assets/default-root.cpio")
  # Also for a default root that was made before its links became a list.
  [[ ! -e tree/minivm/links ]] ||
    while read -r target path; do ln -s "$target" "tree/minivm/root/$path"; done <tree/minivm/links
  mke2fs -q -t ext4 -d tree/minivm/root "$1" 64M
  rm -rf tree
}

# story TEXT: names what the expectations up to the next one are about.
story() { what=$*; }

# try COMMAND...: runs it with this shell's stdin; leaves its exit code in $code, its output in the files out and err.
try() {
  command_line=$*
  "$@" >out 2>err
  code=$?
}

# pid_of NAME: of the machine's process.
pid_of() { "$program" inspect --json "$1" | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }

# until_true COMMAND...: false when it does not become true in a minute.
until_true() {
  local end=$((SECONDS + 60))
  while ((SECONDS < end)); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  return 1
}

fail() {
  failures=$((failures + 1))
  printf 'FAILED %s: %s\n  command: %s\n  exit code %s\n' "$what" "$*" "$command_line" "$code"
  head -c 2000 out | sed 's/^/  stdout: /'
  head -c 4000 err | sed 's/^/  stderr: /'
}

pass() { printf 'ok %s: %s\n' "$what" "$*"; }

expect_code() { if [[ $code == "$1" ]]; then pass "exit code $1"; else fail "wants exit code $1"; fi; }
expect_out() { if [[ $(<out) == "$1" ]]; then pass "stdout"; else fail "wants stdout '$1'"; fi; }
expect_out_like() { if grep -qE -- "$1" out; then pass "stdout like $1"; else fail "wants stdout like '$1'"; fi; }
expect_err_like() { if grep -qE -- "$1" err; then pass "stderr like $1"; else fail "wants stderr like '$1'"; fi; }
expect_no_err() { if [[ ! -s err ]]; then pass "nothing on stderr"; else fail "wants nothing on stderr"; fi; }
expect_that() { if "$@"; then pass "$*"; else fail "wants: $*"; fi; }

# refused CODE PATTERN COMMAND...: bad input gets this exit code and one clear line on stderr, and nothing on stdout.
refused() {
  local wanted=$1 pattern=$2
  shift 2
  try "$@" </dev/null
  expect_code "$wanted"
  expect_err_like "$pattern"
  expect_out ''
}

finish() {
  if ((failures)); then
    printf '%s expectations failed\n' "$failures"
    exit 1
  fi
  exit 0
}
