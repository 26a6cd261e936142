# What VMMs and their guests cost, for the scripts beside this file: CPU time, user and system, and KVM exits.
# shellcheck shell=bash disable=SC2034
#
#   start_counting          once, before all else
#   counted COMMAND...      runs it; leaves microseconds of CPU time in $spent and exits in $exits; its exit code
#   in_group COMMAND...     runs it where all that it starts is counted, also what outlives it
#   interval_begins, interval_ends    the same figures for what happens between the two in what in_group ran
#   stop_counting           takes all of it down, at the end
#
# CPU time is that of a control group of its own: the VMM, its threads, its children, and the kernel's threads that work for it
# (vhost's). Exits are those of the whole machine, by a tracepoint. Both take root; without, exits are '-' and CPU time is
# what the shell knows of commands that it has waited for.

exits_event=/sys/kernel/tracing/events/kvm/kvm_exit
count_group=''

start_counting() {
  shell_times=$(mktemp)
  if ((EUID != 0)); then
    exits_event=''
    return
  fi
  local groups=/sys/fs/cgroup
  [[ -e $groups/cgroup.procs ]] || mount -t cgroup2 cgroup2 "$groups" 2>/dev/null || true
  ! mkdir "$groups/minivm-bench.$$" 2>/dev/null || count_group=$groups/minivm-bench.$$
  [[ -d $exits_event ]] || mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true
  { echo 'hist:keys=exit_reason' >"$exits_event/trigger"; } 2>/dev/null || exits_event=''
}

stop_counting() {
  rm -f "$shell_times"
  [[ -z $count_group ]] || rmdir "$count_group" 2>/dev/null || true
  [[ -z $exits_event ]] || echo '!hist:keys=exit_reason' >"$exits_event/trigger" || true
}

in_group() (
  [[ -z $count_group ]] || echo "$BASHPID" >"$count_group/cgroup.procs"
  "$@"
)

# Leaves the totals so far in $spent and $exits.
read_counts() {
  if [[ -n $count_group ]]; then
    spent=$(awk '$1 == "usage_usec" {print $2}' "$count_group/cpu.stat")
  else
    times >"$shell_times" # here: a subshell has no children yet
    # The second line is of the children, user and system, each in minutes and seconds.
    spent=$(awk -F '[ms ]+' 'NR == 2 {printf "%d", (($1 + $3) * 60 + $2 + $4) * 1e6}' "$shell_times")
  fi
  exits=-
  [[ -z $exits_event ]] || exits=$(awk '/hitcount:/{n += $NF} END{print n + 0}' "$exits_event/hist")
}

interval_begins() {
  read_counts
  spent_before=$spent exits_before=$exits
}

interval_ends() {
  read_counts
  spent=$((spent - spent_before))
  [[ $exits == - ]] || exits=$((exits - exits_before))
}

counted() {
  local code=0
  interval_begins
  in_group "$@" || code=$?
  interval_ends
  return "$code"
}
