#include "vmm/guest_modules.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "tests/synthetic_kernel.h"
#include "vmm/cpuid.h"

namespace minivm {
namespace {

using Catch::Matchers::Contains;
using Strings = std::vector<std::string>;

const std::vector<KernelNeed> sample_needs{
    {"CONFIG_ONE", "one"}, {"CONFIG_TWO", "two"}, {"CONFIG_EXTRA", "extra", false}};

/// A kernel with a configuration, and a module tree of three.
class Scene {
 public:
  boot::Kernel kernel(const std::string& config) const {
    return boot::Kernel::open(kernel_, {.config_file = scratch_.write("config", config)});
  }
  boot::Kernel kernel() const { return boot::Kernel::open(kernel_, {}); }
  std::string modules(const std::string& index = "one.ko: base.ko\ntwo.ko:\nbase.ko:\n") const {
    scratch_.write("modules/modules.dep", index);
    return scratch_.path("modules");
  }
  Strings find(const boot::Kernel& kernel, const std::string& directory) const {
    Strings files = find_guest_modules(kernel, directory, sample_needs);
    for (std::string& file : files) file.erase(0, file.rfind('/') + 1);
    return files;
  }

 private:
  test::ScratchDirectory scratch_;
  std::string kernel_ = scratch_.write("kernel", test::sample_elf().build());
};

std::vector<std::string_view> options(const MachineConfig& config, const std::string& filesystem = {},
                                      boot::Transport transport = boot::Transport::mmio) {
  std::vector<std::string_view> found;
  for (const KernelNeed& need : kernel_needs(config, transport, filesystem)) found.push_back(need.option);
  return found;
}

bool contains(const std::vector<std::string_view>& list, std::string_view wanted) {
  return std::ranges::find(list, wanted) != list.end();
}

TEST_CASE("A guest needs the drivers of what it has, and no others") {
  const auto least = options({});
  CHECK(contains(least, "CONFIG_VIRTIO_MMIO"));
  CHECK(contains(least, "CONFIG_VIRTIO_VSOCKETS"));
  CHECK_FALSE(contains(least, "CONFIG_VIRTIO_PCI"));
  CHECK(contains(options({}, {}, boot::Transport::pci), "CONFIG_VIRTIO_PCI"));
  CHECK_FALSE(contains(options({}, {}, boot::Transport::pci), "CONFIG_VIRTIO_MMIO"));
  CHECK_FALSE(contains(least, "CONFIG_VIRTIO_BLK"));
  CHECK_FALSE(contains(least, "CONFIG_VIRTIO_NET"));
  CHECK_FALSE(contains(least, "CONFIG_OVERLAY_FS"));
  CHECK(contains(options({.random_device = true}), "CONFIG_HW_RANDOM_VIRTIO"));
  CHECK(contains(least, "CONFIG_HW_RANDOM_VIRTIO") == !has_rdrand());

  CHECK(contains(options({.disks = {{.path = "data.img"}}}), "CONFIG_VIRTIO_BLK"));
  CHECK(contains(options({.network = {.kind = Network::Kind::user}}), "CONFIG_VIRTIO_NET"));

  const MachineConfig disk{.root = {.kind = Root::Kind::disk, .disk = {.path = "root.img"}, .throw_away = true}};
  const auto all = options(disk, "squashfs");
  CHECK(contains(all, "CONFIG_VIRTIO_BLK"));
  CHECK(contains(all, "CONFIG_SQUASHFS"));
  CHECK(contains(all, "CONFIG_OVERLAY_FS"));
  CHECK_FALSE(contains(all, "CONFIG_EXT4_FS"));
  // One that minivm does not know may still be built in.
  CHECK(options(disk, "zonefs").size() == all.size() - 1);
}

TEST_CASE("What is built in needs no module, and no module tree") {
  const Scene scene;
  CHECK(scene.find(scene.kernel("CONFIG_ONE=y\nCONFIG_TWO=y\n"), "").empty());
}

TEST_CASE("Modules come with what they depend on, in load order") {
  const Scene scene;
  CHECK(scene.find(scene.kernel("CONFIG_ONE=m\nCONFIG_TWO=m\n"), scene.modules()) ==
        Strings{"base.ko", "one.ko", "two.ko"});
  CHECK(scene.find(scene.kernel("CONFIG_ONE=m\nCONFIG_TWO=y\n"), scene.modules()) == Strings{"base.ko", "one.ko"});
}

TEST_CASE("An option that is off is named; one that is only welcome is not missed") {
  const Scene scene;
  CHECK_THROWS_WITH(scene.find(scene.kernel("CONFIG_TWO=y\n"), scene.modules()), Contains("built without CONFIG_ONE"));
  CHECK_NOTHROW(scene.find(scene.kernel("CONFIG_ONE=y\nCONFIG_TWO=y\n"), scene.modules()));
  // A module that is not there.
  CHECK_NOTHROW(scene.find(scene.kernel("CONFIG_ONE=y\nCONFIG_TWO=y\nCONFIG_EXTRA=m\n"), scene.modules()));
}

TEST_CASE("What no module can bring is named when the kernel was built without it") {
  const Scene scene;
  const std::string whole =
      "CONFIG_64BIT=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_BINFMT_ELF=y\nCONFIG_DEVTMPFS=y\nCONFIG_PROC_FS=y\n"
      "CONFIG_SERIAL_8250_CONSOLE=y\n";
  CHECK_NOTHROW(check_built_in(scene.kernel(whole)));
  CHECK_NOTHROW(check_built_in(scene.kernel()));
  for (const std::string option : {"CONFIG_64BIT", "CONFIG_BLK_DEV_INITRD", "CONFIG_BINFMT_ELF", "CONFIG_DEVTMPFS"}) {
    std::string lacking = whole;
    lacking.replace(lacking.find(option), option.size() + 2, "# " + option + " is not set");
    CHECK_THROWS_WITH(check_built_in(scene.kernel(lacking)), Contains("built without " + option));
  }
  // It boots all the same.
  CHECK_NOTHROW(check_built_in(scene.kernel(whole.substr(0, whole.find("CONFIG_SERIAL")))));
}

TEST_CASE("A module that the tree does not have is named, with its option") {
  const Scene scene;
  CHECK_THROWS_WITH(scene.find(scene.kernel("CONFIG_ONE=m\nCONFIG_TWO=m\n"), scene.modules("one.ko:\n")),
                    Contains("no module two (CONFIG_TWO)"));
}

TEST_CASE("Modules without a tree are refused with the places that were looked at") {
  const Scene scene;
  CHECK_THROWS_WITH(scene.find(scene.kernel("CONFIG_ONE=m\nCONFIG_TWO=y\n"), ""),
                    Contains("--modules") && Contains("/lib/modules/6.9.1-sample"));
}

TEST_CASE("Without a configuration, modules are loaded where there are some, and all is taken as built in elsewhere") {
  const Scene scene;
  CHECK(scene.find(scene.kernel(), scene.modules()) == Strings{"base.ko", "one.ko", "two.ko"});
  CHECK(scene.find(scene.kernel(), "").empty());
}

}  // namespace
}  // namespace minivm
