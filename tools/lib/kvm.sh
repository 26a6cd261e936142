# Which KVM there is, and where to run what needs it.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/base.sh"

minivm=${MINIVM:-$project/build/cli/minivm}

# kvm_is_usable: whether /dev/kvm runs a stock kernel at hardware speed; kvm_reason then says why or why not.
# MINIVM_KVM=host or =lab settles it by hand.
kvm_is_usable() {
  local output
  case ${MINIVM_KVM:-} in
    host | lab)
      kvm_reason="MINIVM_KVM=$MINIVM_KVM"
      [[ $MINIVM_KVM == host ]]
      return
      ;;
  esac
  kvm_reason="this machine has no /dev/kvm"
  [[ -e /dev/kvm ]] || return 1
  kvm_reason="no permission to open /dev/kvm"
  [[ -r /dev/kvm && -w /dev/kvm ]] || return 1
  if [[ -x $minivm ]] && output=$("$minivm" doctor --help 2>&1) && [[ $output == *--quick* ]]; then
    kvm_reason="minivm doctor finds /dev/kvm good"
    "$minivm" doctor --quick >/dev/null 2>&1 && return
    kvm_reason="minivm doctor finds that /dev/kvm cannot run a stock kernel"
    return 1
  fi
  kvm_reason="/dev/kvm is kvm_intel or kvm_amd"
  [[ -d /sys/module/kvm_intel || -d /sys/module/kvm_amd ]] && return
  kvm_reason="/dev/kvm is neither kvm_intel nor kvm_amd"
  return 1
}

# unpack_kernels: what minivm unpacks into its cache inside the lab is lost with the lab, so it does so here before.
unpack_kernels() {
  local kernel
  [[ -x $minivm ]] || return 0
  for kernel in "$cache"/assets/kernel*/vmlinuz; do
    [[ ! -e $kernel ]] || "$minivm" doctor --kernel "$kernel" </dev/null >/dev/null 2>&1 || true
  done
}

# on_kvm COMMAND...: becomes COMMAND, here where KVM is usable, else in the lab.
on_kvm() {
  if kvm_is_usable; then
    say "on hardware KVM: $kvm_reason"
    exec "$@"
  fi
  say "in the lab, an emulated machine with AMD-V: $kvm_reason"
  unpack_kernels
  # Half of the memory at most; what the lab does not touch costs nothing.
  local mem
  mem=$(awk '/^MemTotal:/{m = int($2 / 2048); print (m > 8192 ? 8192 : m)}' /proc/meminfo)
  # One processor: QEMU's emulation of AMD-V with several threads corrupts guests now and then.
  exec "$project/tools/lab" --smp "${MINIVM_LAB_SMP:-1}" --mem "${MINIVM_LAB_MEM:-$mem}" --timeout "${MINIVM_LAB_TIMEOUT:-1000}" "$@"
}
