#include <catch2/catch.hpp>

#include "boot/boot.h"
#include "boot/kernel_config.h"
#include "tests/synthetic_kernel.h"

namespace minivm::boot {

using Value = KernelConfig::Value;
using Catch::Matchers::EndsWith;

TEST_CASE("a configuration tells built-in, module and off apart") {
  const KernelConfig config(
      "CONFIG_FIRST=y\n# CONFIG_UNSET is not set\nCONFIG_MODULE=m\nCONFIG_NUMBER=64\r\n"
      "CONFIG_TEXT=\"m\"\nCONFIG_NO=n\nCONFIG_EMPTY=\n# CONFIG_NOTE=y\nnonsense\nCONFIG_LAST=y");
  CHECK(config.value("CONFIG_FIRST") == Value::built_in);
  CHECK(config.value("CONFIG_MODULE") == Value::module);
  CHECK_FALSE(config.built_in("CONFIG_MODULE"));
  CHECK(config.value("CONFIG_NUMBER") == Value::built_in);
  CHECK(config.value("CONFIG_TEXT") == Value::built_in);
  CHECK(config.value("CONFIG_LAST") == Value::built_in);
  for (const char* off : {"CONFIG_UNSET", "CONFIG_NO", "CONFIG_EMPTY", "CONFIG_NOTE", "CONFIG_FIR", "ONFIG_FIRST"}) {
    CHECK(config.value(off) == Value::off);
  }
  CHECK(KernelConfig("").value("CONFIG_FIRST") == Value::off);
}

TEST_CASE("an option is found behind another one that ends alike") {
  CHECK(KernelConfig("A_CONFIG_X=n\nCONFIG_X=y\n").built_in("CONFIG_X"));
}

namespace {

class KernelWithConfig {
 public:
  Discovery choose(const std::string& config, Discovery wanted = Discovery::automatic) {
    const std::string file = scratch_.write("some.config", config);
    return choose_discovery(Kernel::open(kernel_, {.config_file = file}), wanted);
  }
  Transport choose(const std::string& config, Transport wanted) {
    const std::string file = scratch_.write("some.config", config);
    return choose_transport(Kernel::open(kernel_, {.config_file = file}), wanted);
  }
  const std::string& path() const { return kernel_; }

 private:
  test::ScratchDirectory scratch_;
  std::string kernel_ = scratch_.write("vmlinuz", test::sample_bzimage());
};

}  // namespace

TEST_CASE("devices are announced in the first way that the kernel understands") {
  KernelWithConfig kernel;
  const std::string mmio = "CONFIG_VIRTIO_MMIO=m\n";
  const std::string parameters = "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y\n";
  const std::string tree = "CONFIG_OF=y\nCONFIG_OF_EARLY_FLATTREE=y\n";
  CHECK(kernel.choose(mmio + "CONFIG_ACPI=y\n" + tree + parameters) == Discovery::acpi);
  CHECK(kernel.choose(mmio + tree + parameters) == Discovery::fdt);
  // Such a kernel knows device trees, and does not read the one that its loader passes.
  CHECK(kernel.choose(mmio + "CONFIG_OF=y\n" + parameters) == Discovery::command_line);
  CHECK(kernel.choose(mmio + parameters) == Discovery::command_line);
  CHECK(kernel.choose(mmio + "CONFIG_ACPI=y\n" + tree, Discovery::fdt) == Discovery::fdt);
  CHECK(choose_discovery(Kernel::open(kernel.path(), {}), Discovery::fdt) == Discovery::fdt);
  CHECK(choose_discovery(Kernel::open(kernel.path(), {}), Discovery::automatic) == Discovery::acpi);
}

TEST_CASE("a kernel that cannot find its devices is refused with the options it lacks") {
  KernelWithConfig kernel;
  CHECK_THROWS_WITH(kernel.choose("CONFIG_VIRTIO_MMIO=y\n"),
                    EndsWith("cannot find virtio devices: CONFIG_ACPI, CONFIG_OF_EARLY_FLATTREE and "
                             "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES are all off"));
  CHECK_THROWS_WITH(kernel.choose("CONFIG_VIRTIO_MMIO=y\nCONFIG_ACPI=y\nCONFIG_OF=y\n", Discovery::fdt),
                    EndsWith("cannot find virtio devices as asked: CONFIG_OF_EARLY_FLATTREE is off"));
}

TEST_CASE("devices sit on MMIO unless the kernel has only PCI, or PCI is asked for") {
  KernelWithConfig kernel;
  const std::string mmio = "CONFIG_VIRTIO_MMIO=m\n";
  const std::string pci = "CONFIG_VIRTIO_PCI=m\nCONFIG_ACPI=y\nCONFIG_PCI_MMCONFIG=y\nCONFIG_PCI_MSI=y\n";
  CHECK(kernel.choose(mmio + pci, Transport::automatic) == Transport::mmio);
  CHECK(kernel.choose(pci, Transport::automatic) == Transport::pci);
  CHECK(kernel.choose(mmio + pci, Transport::pci) == Transport::pci);
  CHECK(choose_transport(Kernel::open(kernel.path(), {}), Transport::automatic) == Transport::mmio);
  CHECK(choose_transport(Kernel::open(kernel.path(), {}), Transport::pci) == Transport::pci);
}

TEST_CASE("a kernel that cannot reach devices on a transport is refused with the options it lacks") {
  KernelWithConfig kernel;
  CHECK_THROWS_WITH(kernel.choose("CONFIG_ACPI=y\n", Transport::automatic),
                    EndsWith("cannot use virtio devices: CONFIG_VIRTIO_MMIO and CONFIG_VIRTIO_PCI are both off"));
  CHECK_THROWS_WITH(kernel.choose("CONFIG_VIRTIO_PCI=y\n", Transport::mmio),
                    EndsWith("cannot use virtio devices as asked: CONFIG_VIRTIO_MMIO is off"));
  CHECK_THROWS_WITH(kernel.choose("CONFIG_VIRTIO_MMIO=y\n", Transport::pci),
                    EndsWith("cannot use virtio devices as asked: CONFIG_VIRTIO_PCI is off"));
  CHECK_THROWS_WITH(kernel.choose("CONFIG_VIRTIO_PCI=y\nCONFIG_ACPI=y\nCONFIG_PCI_MSI=y\n", Transport::automatic),
                    EndsWith("cannot use virtio devices over PCI: CONFIG_PCI_MMCONFIG is off"));
}

}  // namespace minivm::boot
