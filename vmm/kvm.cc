#include "vmm/kvm.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "boot/layout.h"
#include "vmm/kvm_lists.h"

namespace minivm {
namespace {

UniqueFd open_kvm(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) throw_errno(path);
  return fd;
}

int create_vm(const Kvm& kvm) {
  // A signal can end KVM_CREATE_VM with EINTR: it takes locks that it waits for interruptibly.
  for (int tries = 0;; ++tries) {
    const int fd = ::ioctl(kvm.fd(), KVM_CREATE_VM, 0UL);
    if (fd >= 0) return fd;
    if (errno != EINTR || tries == 5) throw_errno("KVM_CREATE_VM");
  }
}

}  // namespace

Kvm::Kvm(const std::string& path) : fd_(open_kvm(path)) {
  const int version = ::ioctl(fd_.get(), KVM_GET_API_VERSION, 0UL);
  if (version < 0) throw std::runtime_error(fmt::format("{}: not a KVM device", path));
  if (version != api_version) {
    throw std::runtime_error(fmt::format("{}: API version {}, minivm needs {}", path, version, api_version));
  }
}

int Kvm::check_extension(unsigned long capability) const noexcept {
  const int value = ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, capability);
  return value < 0 ? 0 : value;
}

std::vector<kvm_cpuid_entry2> Kvm::supported_cpuid() const {
  static constexpr std::size_t max_entries = 256;
  std::vector<kvm_cpuid_entry2> entries(max_entries);
  std::vector<std::byte> block = kvm_lists::make(std::span<const kvm_cpuid_entry2>(entries));
  if (::ioctl(fd_.get(), kvm_lists::get_supported_cpuid, block.data()) < 0) throw_errno("KVM_GET_SUPPORTED_CPUID");
  kvm_lists::Head head;
  std::memcpy(&head, block.data(), sizeof head);
  entries.resize(head.count);
  std::memcpy(entries.data(), block.data() + sizeof head, entries.size() * sizeof(kvm_cpuid_entry2));
  return entries;
}

std::size_t Kvm::run_mapping_size() const {
  const int size = ::ioctl(fd_.get(), KVM_GET_VCPU_MMAP_SIZE, 0UL);
  if (size < 0) throw_errno("KVM_GET_VCPU_MMAP_SIZE");
  return static_cast<std::size_t>(size);
}

Vm::Vm(const Kvm& kvm) : fd_(create_vm(kvm)) {
  // Only Intel hosts need these two pages, for guests in real mode; elsewhere the calls do nothing.
  std::uint64_t identity_map = layout::kvm_identity_map;
  if (kvm.check_extension(KVM_CAP_SET_IDENTITY_MAP_ADDR) != 0 &&
      ::ioctl(fd_.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0) {
    throw_errno("KVM_SET_IDENTITY_MAP_ADDR");
  }
  if (kvm.check_extension(KVM_CAP_SET_TSS_ADDR) != 0 && ::ioctl(fd_.get(), KVM_SET_TSS_ADDR, layout::kvm_tss) < 0) {
    throw_errno("KVM_SET_TSS_ADDR");
  }
}

void Vm::set_memory(const GuestMemory& memory) {
  std::uint32_t slot = 0;
  for (const GuestMemory::Region& region : memory.regions()) {
    const kvm_userspace_memory_region slot_region{
        .slot = slot++,
        .flags = 0,
        .guest_phys_addr = raw(region.start),
        .memory_size = region.size,
        .userspace_addr = reinterpret_cast<std::uintptr_t>(region.host),
    };
    if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &slot_region) < 0) {
      throw_errno(fmt::format("KVM_SET_USER_MEMORY_REGION of {} MiB", region.size >> 20));
    }
  }
}

void Vm::create_irqchip() {
  if (::ioctl(fd_.get(), KVM_CREATE_IRQCHIP, 0UL) < 0) throw_errno("KVM_CREATE_IRQCHIP");
}

UniqueFd Vm::create_vcpu(std::uint32_t id) {
  UniqueFd vcpu(::ioctl(fd_.get(), KVM_CREATE_VCPU, static_cast<unsigned long>(id)));
  if (!vcpu) throw_errno(fmt::format("KVM_CREATE_VCPU {}", id));
  return vcpu;
}

void Vm::bind_irqfd(int event_fd, std::uint32_t gsi) {
  kvm_irqfd binding{};
  binding.fd = static_cast<std::uint32_t>(event_fd);
  binding.gsi = gsi;
  if (::ioctl(fd_.get(), KVM_IRQFD, &binding) < 0) throw_errno(fmt::format("KVM_IRQFD for GSI {}", gsi));
}

void Vm::bind_ioeventfd(int event_fd, std::uint64_t address, std::uint32_t value) {
  kvm_ioeventfd binding{};
  binding.datamatch = value;
  binding.addr = address;
  binding.len = sizeof value;
  binding.fd = event_fd;
  binding.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
  if (::ioctl(fd_.get(), KVM_IOEVENTFD, &binding) < 0) throw_errno(fmt::format("KVM_IOEVENTFD at {:#x}", address));
}

void Vm::bind_ioeventfd(int event_fd, std::uint64_t address) {
  kvm_ioeventfd binding{};
  binding.addr = address;
  binding.fd = event_fd;  // a length of zero stands for any (api.rst, KVM_CAP_IOEVENTFD_ANY_LENGTH)
  if (::ioctl(fd_.get(), KVM_IOEVENTFD, &binding) < 0) throw_errno(fmt::format("KVM_IOEVENTFD at {:#x}", address));
}

bool Vm::set_routes(std::span<const kvm_irq_routing_entry> entries) noexcept {
  const auto block = kvm_lists::make(entries);
  return ::ioctl(fd_.get(), kvm_lists::set_gsi_routing, block.data()) == 0;
}

}  // namespace minivm
