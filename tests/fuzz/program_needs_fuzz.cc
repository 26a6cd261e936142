// A program to upload may be any file.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "base/fd.h"
#include "vmm/program_needs.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const minivm::UniqueFd file(::memfd_create("program", MFD_CLOEXEC));
  if (::write(file.get(), data, size) != static_cast<ssize_t>(size)) __builtin_trap();
  const minivm::ProgramNeeds needs = minivm::read_program_needs(file.get(), size);
  if (needs.interpreter.size() > size || needs.libraries.size() > 256) __builtin_trap();
  for (const auto& library : needs.libraries) {
    if (library.empty() || library.size() > size) __builtin_trap();
  }
  return 0;
}
