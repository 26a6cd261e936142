#!/usr/bin/env python3
"""Fails when a folder includes another that it may not see, by the graph of docs/architecture.md:

    base <- boot, devices <- vmm <- cli;  protocol <- boot, vmm, guest-init;  include <- vmm, cli
    protocol, freestanding <- copy <- guest-init, cli;  freestanding <- guest-init

Lower folders are open to all above them, nothing points back, nothing of ours includes tests or benches, only vmm and tests know KVM, and no file is a drawer
for odds and ends.    tools/check_layering.py [PROJECT]
"""
import pathlib
import re
import sys

SEES = {
    "base": set(),
    "protocol": set(),
    "freestanding": set(),
    "copy": {"protocol", "freestanding"},
    "include": set(),
    "boot": {"base", "protocol"},
    "devices": {"base"},
    "vmm": {"base", "boot", "devices", "protocol", "include"},
    "cli": {"base", "boot", "devices", "protocol", "vmm", "include", "copy"},
    "guest-init": {"protocol", "freestanding", "copy"},
}
EVERYTHING = set(SEES) | {"tests", "benches"}
SEES |= {"tests": EVERYTHING, "benches": EVERYTHING}
GATES = {("vmm", "guest-init/image.h")}  # PID 1 as bytes to put into the initramfs
KNOWS_KVM = {"vmm", "tests", "benches"}
DRAWERS = re.compile(r"(^|_)(utils?|common|helpers?|misc)(_|$)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folder_of(include: str) -> str:
    """The folder of ours that an include names; the public API is included as minivm/x.h."""
    top = include.split("/")[0]
    return "include" if top == "minivm" else top


def violations(project: pathlib.Path):
    for folder, seen in SEES.items():
        for file in sorted((project / folder).rglob("*")):
            if file.suffix not in {".h", ".cc", ".c", ".S"}:
                continue
            name = file.relative_to(project)
            if DRAWERS.search(file.stem):
                yield f"{name}: name it after the one concept that it holds"
            for number, line in enumerate(file.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                target = folder_of(match[2])
                if target in EVERYTHING and target not in seen | {folder} and (folder, match[2]) not in GATES:
                    yield f"{name}:{number}: {folder} must not include {match[2]}"
                if match[2] in {"linux/kvm.h", "asm/kvm.h"} and folder not in KNOWS_KVM:
                    yield f"{name}:{number}: only vmm knows KVM"


def main() -> int:
    project = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    found = list(violations(project))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
