#!/usr/bin/env python3
"""Fails when README.md or docs/*.md name a file or folder of the project that does not exist: a path in backticks that
starts with one of its folders, or a relative link.    tools/check_docs.py [PROJECT]
"""
import pathlib
import re
import sys

FOLDERS = "base|benches|boot|cli|copy|devices|docs|freestanding|guest-init|include|kernel|protocol|tests|tools|vmm"
# Up to a blank, so that `tools/dev run -- uname` is judged by its first word.
IN_BACKTICKS = re.compile(rf"`(?:\./)?((?:{FOLDERS})/[^`\s]*)[^`]*`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
CODE_BLOCK = re.compile(r"^\s*(?:\./)?(tools/[\w.-]+)", re.MULTILINE)


def spellings(path: str):
    """The files that a path stands for: base/fd.{h,cc} is two of them."""
    match = re.search(r"\{([^{}]*)\}", path)
    if not match:
        return [path]
    return [s for part in match[1].split(",") for s in spellings(path[: match.start()] + part + path[match.end() :])]


def missing(project: pathlib.Path):
    for document in [project / "README.md", *sorted((project / "docs").glob("*.md"))]:
        if not document.exists():
            continue
        text = document.read_text()
        named = [(project, path) for path in IN_BACKTICKS.findall(text) + CODE_BLOCK.findall(text)]
        named += [(document.parent, path) for path in LINK.findall(text)]
        for start, path in named:
            for spelling in spellings(path.rstrip(".,:;")):
                found = any(start.glob(spelling)) if "*" in spelling else (start / spelling).exists()
                if not found:
                    yield f"{document.relative_to(project)}: there is no {spelling}"


def main() -> int:
    project = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    found = sorted(set(missing(project)))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
