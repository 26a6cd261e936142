#!/usr/bin/env python3
"""Runs clang-tidy on every source file of the project, several at a time. A file that was found clean is not looked at
again until it, a header of ours that it reaches, its compile command, .clang-tidy or clang-tidy itself changes.

    tools/lint.py [--jobs N] BUILD-FOLDER
"""
import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("base", "boot", "devices", "vmm", "cli", "copy", "guest-init")
# g++ is the judge of what compiles: clang 14 cannot read some of C++23 and of libstdc++ 12, such as std::variant.
FINDING = re.compile(r"(?:warning|error): .* \[(?!clang-diagnostic-error\b)[\w.,-]+\]$", re.MULTILINE)
NOT_READ = "[clang-diagnostic-error]"
INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def clean_folder() -> pathlib.Path:
    users = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = pathlib.Path(os.environ.get("MINIVM_CACHE") or users / "minivm") / "lint"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@functools.cache
def reached(file: pathlib.Path) -> frozenset[pathlib.Path]:
    """The file and all of ours that it includes, directly or not."""
    files, todo = set(), [file]
    while todo:
        current = todo.pop()
        if current in files:
            continue
        files.add(current)
        for name in INCLUDE.findall(current.read_bytes()):
            candidates = [PROJECT / name.decode(), PROJECT / "include" / name.decode(), current.parent / name.decode()]
            todo += [c for c in candidates if c.is_file()]
    return frozenset(files)


def fingerprint(entry: dict, settings: bytes) -> str:
    digest = hashlib.sha256(settings)
    digest.update(entry["command"].replace(str(PROJECT), "").encode())
    for file in sorted(reached(pathlib.Path(entry["file"]))):
        digest.update(str(file.relative_to(PROJECT)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def tidy(entry: dict, build: str) -> subprocess.CompletedProcess:
    command = ["clang-tidy", "--quiet", "-p", build, entry["file"]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def is_clean(result: subprocess.CompletedProcess) -> bool:
    return result.returncode == 0 or (NOT_READ in result.stdout and not FINDING.search(result.stdout))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("build")
    options = parser.parse_args()

    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, check=True).stdout
    settings = version + (PROJECT / ".clang-tidy").read_bytes()
    entries = json.loads((pathlib.Path(options.build) / "compile_commands.json").read_text())
    ours = [e for e in entries if e["file"].endswith(".cc") and pathlib.Path(e["file"]).is_relative_to(PROJECT)
            and pathlib.Path(e["file"]).relative_to(PROJECT).parts[0] in FOLDERS]
    known_clean = clean_folder()
    todo = [(e, known_clean / key) for e in ours if not (known_clean / (key := fingerprint(e, settings))).exists()]
    print(f"lint: {len(todo)} of {len(ours)} files to look at", file=sys.stderr)

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for (entry, mark), result in zip(todo, pool.map(lambda item: tidy(item[0], options.build), todo)):
            if is_clean(result):
                mark.touch()
                continue
            failed += 1
            print(f"lint: {entry['file']}\n{result.stdout}{result.stderr}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
