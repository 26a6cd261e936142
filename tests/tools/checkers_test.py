#!/usr/bin/env python3
"""check_layering.py and check_docs.py pass this project and catch what they are there to catch."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent


def run(checker: str, project: pathlib.Path) -> tuple[int, str]:
    result = subprocess.run([sys.executable, PROJECT / "tools" / checker, project], capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


class Checker(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.project = pathlib.Path(folder.name)

    def write(self, name: str, text: str):
        file = self.project / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def judge(self, checker: str, code: int, words: str):
        found = run(checker, self.project)
        self.assertEqual(found[0], code, found[1])
        self.assertIn(words, found[1])


class Layering(Checker):
    def test_passes_this_project(self):
        self.assertEqual(run("check_layering.py", PROJECT), (0, ""))

    def test_lets_upper_folders_see_lower_ones(self):
        self.write("vmm/machine.cc", '#include "minivm/run.h"\n#include "devices/virtio/blk.h"\n#include <linux/kvm.h>\n')
        self.judge("check_layering.py", 0, "")

    def test_catches_a_folder_that_looks_up(self):
        self.write("base/fd.cc", '#include "base/fd.h"\n# include "vmm/kvm.h"\n')
        self.judge("check_layering.py", 1, "base/fd.cc:2: base must not include vmm/kvm.h")

    def test_catches_the_guest_looking_at_the_host(self):
        self.write("guest-init/main.cc", '#include "base/fd.h"\n')
        self.judge("check_layering.py", 1, "guest-init must not include base/fd.h")

    def test_catches_a_device_that_knows_kvm(self):
        self.write("devices/virtio/blk.h", "#include <linux/kvm.h>\n")
        self.judge("check_layering.py", 1, "only vmm knows KVM")

    def test_catches_code_that_includes_tests(self):
        self.write("vmm/vcpu.cc", '#include "tests/fake_driver.h"\n')
        self.judge("check_layering.py", 1, "vmm must not include tests/fake_driver.h")

    def test_catches_drawers_for_odds_and_ends(self):
        self.write("cli/string_utils.cc", "")
        self.judge("check_layering.py", 1, "cli/string_utils.cc")


class Docs(Checker):
    def test_passes_this_project(self):
        self.assertEqual(run("check_docs.py", PROJECT), (0, ""))

    def test_follows_paths_braces_and_links(self):
        self.write("base/fd.h", "")
        self.write("base/fd.cc", "")
        self.write("tools/dev", "")
        self.write("docs/a.md", "[readme](../README.md) [field](https://example.org/x)\n")
        self.write("README.md", "`base/fd.{h,cc}` `base/*.h` `tools/dev run -- uname`\n\n    ./tools/dev test\n")
        self.judge("check_docs.py", 0, "")

    def test_catches_what_is_gone(self):
        for text, name in (("`boot/gone.h`", "boot/gone.h"), ("[a](docs/gone.md)", "docs/gone.md"),
                           ("    ./tools/gone build", "tools/gone"), ("`base/fd.{h,cc}`", "base/fd.h")):
            self.write("README.md", text)
            self.judge("check_docs.py", 1, f"there is no {name}")


if __name__ == "__main__":
    unittest.main()
