#include "vmm/upload.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "vmm/exec_session.h"

namespace minivm {
namespace {

/// Why `header` is no program that an x86-64 Linux runs; empty when it is one.
std::string_view refuse(const Elf64_Ehdr& header) {
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return "not an ELF file";
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return "not ELF64";
  if (header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64) return "not for x86-64";
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return "not an executable";
  return {};
}

}  // namespace

Upload open_upload(const std::string& path) {
  // Without O_NONBLOCK, a FIFO would wait for its writer.
  Upload upload{UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), 0, {}};
  if (!upload.file) {
    const int code = errno == ENOENT ? ExecOutcome::not_found : ExecOutcome::not_executable;
    throw UploadError(code, fmt::format("{}: {}", path, std::strerror(errno)));
  }
  const auto refused = [&](std::string_view reason) {
    return UploadError(ExecOutcome::not_executable, fmt::format("{}: {}", path, reason));
  };
  struct stat status {};
  if (::fstat(upload.file.get(), &status) != 0 || !S_ISREG(status.st_mode)) throw refused("not a regular file");
  upload.size = static_cast<std::uint64_t>(status.st_size);
  Elf64_Ehdr header{};
  if (::pread(upload.file.get(), &header, sizeof header, 0) != sizeof header) throw refused("not ELF64: too short");
  if (const std::string_view reason = refuse(header); !reason.empty()) throw refused(reason);
  upload.needs = read_program_needs(upload.file.get(), upload.size);
  return upload;
}

}  // namespace minivm
