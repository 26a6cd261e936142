#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "base/fd.h"
#include "vmm/program_needs.h"

namespace minivm {

/// A host program that cannot be sent to the guest; `exit_code` is 127 (not found) or 126 (not executable there).
class UploadError : public std::runtime_error {
 public:
  UploadError(int exit_code, const std::string& what) : std::runtime_error(what), exit_code_(exit_code) {}
  int exit_code() const noexcept { return exit_code_; }

 private:
  int exit_code_;
};

struct Upload {
  UniqueFd file;
  std::uint64_t size = 0;  // bytes
  ProgramNeeds needs;
};

/// Opens an ELF64 program for x86-64. Throws UploadError that names the file and the reason.
Upload open_upload(const std::string& path);

}  // namespace minivm
