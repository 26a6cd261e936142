#include "vmm/upload.h"

#include <elf.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <functional>
#include <string>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using test::ScratchDirectory;

Elf64_Ehdr program() {
  Elf64_Ehdr header{};
  for (int i = 0; i < SELFMAG; ++i) header.e_ident[i] = static_cast<unsigned char>(ELFMAG[i]);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_machine = EM_X86_64;
  header.e_type = ET_EXEC;
  return header;
}

/// The exit code and the reason for which `path` is refused.
std::pair<int, std::string> refused(const std::string& path) {
  try {
    open_upload(path);
  } catch (const UploadError& error) {
    return {error.exit_code(), error.what()};
  }
  return {0, "not refused"};
}

TEST_CASE("A program of this host can be uploaded") {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  const Upload upload = open_upload(self);
  CHECK(static_cast<bool>(upload.file));
  CHECK(upload.size == std::filesystem::file_size(self));
}

TEST_CASE("ELF64 for x86-64 is enough, position-independent or not") {
  const ScratchDirectory directory;
  Elf64_Ehdr header = program();
  header.e_type = GENERATE(Elf64_Half{ET_EXEC}, Elf64_Half{ET_DYN});
  CHECK(open_upload(directory.write("tool", std::as_bytes(std::span(&header, 1)))).size == sizeof header);
}

TEST_CASE("A program that is not there is 127") {
  const ScratchDirectory directory;
  CHECK(refused(directory.path("none")) == std::pair(127, directory.path("none") + ": No such file or directory"));
}

TEST_CASE("What is no file is 126, and nobody waits for it") {
  const ScratchDirectory directory;
  CHECK(refused(directory.path()) == std::pair(126, directory.path() + ": not a regular file"));
  CHECK(refused("/dev/null") == std::pair(126, std::string("/dev/null: not a regular file")));
  REQUIRE(directory.run("mkfifo pipe").status == 0);
  CHECK(refused(directory.path("pipe")) == std::pair(126, directory.path("pipe") + ": not a regular file"));
}

TEST_CASE("A file that is no x86-64 program is 126, with the reason") {
  struct Broken {
    std::string reason;
    std::function<void(Elf64_Ehdr&)> change;
  };
  const auto broken = GENERATE(values<Broken>({
      {"not an ELF file", [](Elf64_Ehdr& header) { header.e_ident[0] = '#'; }},
      {"not ELF64", [](Elf64_Ehdr& header) { header.e_ident[EI_CLASS] = ELFCLASS32; }},
      {"not for x86-64", [](Elf64_Ehdr& header) { header.e_machine = EM_AARCH64; }},
      {"not for x86-64", [](Elf64_Ehdr& header) { header.e_ident[EI_DATA] = ELFDATA2MSB; }},
      {"not an executable", [](Elf64_Ehdr& header) { header.e_type = ET_REL; }},
      {"not an executable", [](Elf64_Ehdr& header) { header.e_type = ET_CORE; }},
  }));
  const ScratchDirectory directory;
  Elf64_Ehdr header = program();
  broken.change(header);
  const std::string path = directory.write("tool", std::as_bytes(std::span(&header, 1)));
  CHECK(refused(path) == std::pair(126, path + ": " + broken.reason));
}

TEST_CASE("A file that is shorter than an ELF header is 126") {
  const ScratchDirectory directory;
  for (const char* content : {"", "#!/bin/sh\n",
                              "\x7F"
                              "ELF"}) {
    const std::string path = directory.write("tool", content);
    CHECK(refused(path) == std::pair(126, path + ": not ELF64: too short"));
  }
}

}  // namespace
}  // namespace minivm
