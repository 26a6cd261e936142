#!/usr/bin/env python3
"""What minivm itself takes before its guest's first instruction, and beside its guest's memory:

  time      from exec to the first KVM_RUN, by CLOCK_MONOTONIC; and how much of that the main thread was on a CPU, which
            other load on the machine changes less
  calls     system calls from exec to the first KVM_RUN, as strace counts them
  size      the executable, stripped
  resident  memory of the process outside guest RAM, its own program text included, while a guest with every device has been
            up for two seconds, without the network and with it

The first two never get as far as a guest's kernel, so any /dev/kvm serves; the last boots one, and runs where
tools/on-kvm finds that possible.

    benches/startup_bench.py [--runs N] [--minivm PROGRAM] [time|calls|size|resident ...]
"""
import argparse
import collections
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
MEMORY_MIB = 512
MOST_MS = 5
MOST_CALLS = 400
MOST_SIZE_MIB = 2
MOST_RESIDENT_MIB = {"none": 2, "user": 3}
TIMED_OUT = 124
LIMIT_MS = 500


def machine() -> str:
    """The processor, and how much else goes on: times of a busy machine say little."""
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    return (f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
            f"load {os.getloadavg()[0]:.1f}")


def verdict(kept: bool, promise: str) -> str:
    return f"{'kept' if kept else 'MISSED'}: {promise}"


def command_to_first_run(minivm: str, record: str) -> list:
    """Boots until the time limit: only what comes before the first instruction is looked at."""
    return [minivm, "run", "--json", record, "--memory", f"{MEMORY_MIB}M", "--timeout", f"{LIMIT_MS}ms", "--", "true"]


def expect_timeout(status: int, command: list) -> None:
    if status not in (TIMED_OUT, 0):
        sys.exit(f"startup_bench: exit code {status} of {' '.join(command)}")


def on_cpu_ns(pid: int) -> int:
    """Time that the main thread of `pid` has been running."""
    return int(pathlib.Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def to_first_run(command: list, record: pathlib.Path) -> tuple:
    """Milliseconds from exec to the first KVM_RUN: by the clock, and on the CPU."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in 0, 1, 2:
            os.dup2(null, fd)
        os.write(write_end, f"{on_cpu_ns(os.getpid())} {time.clock_gettime_ns(time.CLOCK_MONOTONIC)}".encode())
        os.execv(command[0], command)
    # The main thread only waits by then: the guest runs on another one.
    time.sleep(LIMIT_MS / 2000)
    on_cpu_after = on_cpu_ns(child)
    _, status = os.waitpid(child, 0)
    expect_timeout(os.waitstatus_to_exitcode(status), command)
    on_cpu_before, clock_before = map(int, os.read(read_end, 64).split())
    os.close(read_end)
    os.close(write_end)
    first_run = json.loads(record.read_text())["timing"]["first_run_ns"]
    if not first_run:
        sys.exit(f"startup_bench: no KVM_RUN within {LIMIT_MS} ms")
    return (first_run - clock_before) / 1e6, (on_cpu_after - on_cpu_before) / 1e6


def spread(values: list) -> str:
    return f"min {min(values):.2f} ms, median {statistics.median(values):.2f} ms, max {max(values):.2f} ms"


def measure_time(minivm: str, runs: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        record = pathlib.Path(scratch, "record.json")
        command = command_to_first_run(minivm, str(record))
        to_first_run(command, record)  # the kernel's cache gets warm
        times, on_cpu = zip(*(to_first_run(command, record) for _ in range(runs)))
    print(f"time      exec to first KVM_RUN, {MEMORY_MIB} MiB, {runs} runs: {spread(times)}")
    print(f"          of that on the CPU: {spread(on_cpu)}")
    print("         ", verdict(statistics.median(times) <= MOST_MS, f"at most {MOST_MS} ms (median)"))


def measure_calls(minivm: str) -> None:
    if not shutil.which("strace"):
        print("calls     skipped: strace is not installed (tools/dev setup installs it)")
        return
    with tempfile.TemporaryDirectory() as scratch:
        trace = pathlib.Path(scratch, "trace")
        command = command_to_first_run(minivm, os.path.join(scratch, "record.json"))
        for _ in range(2):  # the first one warms the kernel's cache
            traced = ["strace", "-f", "-o", str(trace), *command]
            expect_timeout(subprocess.run(traced, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode, traced)
        calls = collections.Counter()
        for line in trace.read_text(errors="replace").splitlines():
            if "KVM_RUN" in line:
                break
            # Not the second halves of calls that another thread's line interrupted, nor signals and exits.
            if call := re.match(r"\d+ +(\w+)\(", line):
                calls[call[1]] += 1
        else:
            sys.exit("startup_bench: no KVM_RUN in strace's output")
    total = sum(calls.values())
    print(f"calls     system calls from exec to first KVM_RUN: {total}; most of them",
          ", ".join(f"{name} {count}" for name, count in calls.most_common(5)))
    print("         ", verdict(total < MOST_CALLS, f"fewer than {MOST_CALLS}"))


def measure_size(minivm: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        stripped = pathlib.Path(scratch, "minivm")
        subprocess.run(["strip", "-o", str(stripped), minivm], check=True)
        size = stripped.stat().st_size
    print(f"size      {size / 2**20:.2f} MiB: {size} bytes, stripped")
    print("         ", verdict(size <= MOST_SIZE_MIB << 20, f"at most {MOST_SIZE_MIB} MiB"))


def mappings(pid: int):
    """(start, end, name, resident KiB) of each mapping."""
    found = []
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+ *(.*)", line):
            found.append([int(head[1], 16), int(head[2], 16), head[3] or "anonymous", 0])
        elif line.startswith("Rss:"):
            found[-1][3] = int(line.split()[1])
    return found


def guest_ram(found: list) -> tuple:
    """First and last index of the mappings that make up guest RAM: anonymous memory and parts of the cached kernel, one
    after the other, of the guest's size in sum."""
    for first in range(len(found)):
        last = first
        while last + 1 < len(found) and found[last + 1][0] == found[last][1] and \
                found[last][1] - found[first][0] < MEMORY_MIB << 20:
            last += 1
        if found[last][1] - found[first][0] == MEMORY_MIB << 20:
            return first, last
    sys.exit(f"startup_bench: no {MEMORY_MIB} MiB of guest RAM among the mappings")


def resident_by_name(pid: int) -> tuple:
    """KiB in guest RAM, and a counter of KiB by name for all else."""
    found = mappings(pid)
    first, last = guest_ram(found)
    outside = collections.Counter()
    for _, _, name, kib in found[:first] + found[last + 1:]:
        outside[os.path.basename(name)] += kib
    return sum(kib for *_, kib in found[first:last + 1]), outside


def measure_resident(minivm: str, network: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        disk = pathlib.Path(scratch, "disk.img")
        with disk.open("wb") as file:
            file.truncate(64 << 20)
        command = [minivm, "run", "--memory", f"{MEMORY_MIB}M", "--disk", f"{disk}:ro", "--net", network,
                   "--console-port", "virtio", "--rng", "--", "sh", "-c",
                   "cat /dev/vda >/dev/null && head -c 64 /dev/hwrng >/dev/null && ip link >/dev/console; echo up; sleep 60"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            if process.stdout.readline() != b"up\n":
                sys.exit(f"startup_bench: no guest came up, exit code {process.wait()}")
            time.sleep(2)
            ram, outside = resident_by_name(process.pid)
            process.send_signal(signal.SIGTERM)
    total = sum(outside.values())
    most = MOST_RESIDENT_MIB[network]
    print(f"resident  --net {network}, outside guest RAM: {total / 1024:.2f} MiB ({ram / 1024:.0f} MiB in it); most of it",
          ", ".join(f"{name} {kib} KiB" for name, kib in outside.most_common(6)))
    print("         ", verdict(total <= most * 1024, f"at most {most} MiB"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=30)
    options.add_argument("--minivm", default=os.environ.get("MINIVM", str(PROJECT / "build/cli/minivm")))
    options.add_argument("--here", action="store_true", help="measure `resident` on this very machine")
    options.add_argument("what", nargs="*", choices=["time", "calls", "size", "resident", []])
    chosen = options.parse_args()
    what = chosen.what or ["time", "calls", "size", "resident"]
    print(f"machine   {machine()}")
    if "time" in what:
        measure_time(chosen.minivm, chosen.runs)
    if "calls" in what:
        measure_calls(chosen.minivm)
    if "size" in what:
        measure_size(chosen.minivm)
    if "resident" in what and chosen.here:
        for network in ("none", "user"):
            measure_resident(chosen.minivm, network)
    elif "resident" in what:
        sys.stdout.flush()
        again = [PROJECT / "tools/on-kvm", __file__, "--here", "--minivm", chosen.minivm, "resident"]
        sys.exit(subprocess.run(again, stdin=subprocess.DEVNULL).returncode)


if __name__ == "__main__":
    main()
