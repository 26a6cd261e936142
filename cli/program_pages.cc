#include "cli/program_pages.h"

#include <link.h>
#include <sys/mman.h>

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/guest_memory.h"

namespace minivm {
namespace {

constexpr std::chrono::seconds start_is_over{1};

// Read-only segments are as their files are: nothing is lost with their pages.
int release_read_only(dl_phdr_info* object, std::size_t, void*) noexcept {
  for (std::size_t i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const std::uintptr_t start = (object->dlpi_addr + segment.p_vaddr) & ~(GuestMemory::page_size - 1);
    const std::uintptr_t end = object->dlpi_addr + segment.p_vaddr + segment.p_memsz;
    ::madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
  }
  return 0;
}

}  // namespace

void release_program_pages() noexcept { ::dl_iterate_phdr(release_read_only, nullptr); }

void release_program_pages_later(EventLoop& loop) { loop.after(start_is_over, release_program_pages); }

}  // namespace minivm
