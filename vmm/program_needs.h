#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace minivm {

/// What a dynamically linked ELF64 program needs besides itself (System V ABI, "Program Loading and Dynamic Linking").
struct ProgramNeeds {
  std::string interpreter;             // PT_INTERP: its loader; empty: none
  std::vector<std::string> libraries;  // DT_NEEDED; empty when the program brings a search path of its own
};

/// Reads them from the file `fd` of `size` bytes. Any bytes are fine: what is out of bounds, or longer than any real
/// program has it, counts as not said, and the kernel's or the loader's own judgement follows later.
ProgramNeeds read_program_needs(int fd, std::uint64_t size);

}  // namespace minivm
