#include "vmm/program_needs.h"

#include <elf.h>
#include <fcntl.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "base/fd.h"
#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using test::ScratchDirectory;
using Strings = std::vector<std::string>;

ProgramNeeds needs_of(const std::string& path) {
  const UniqueFd file = open_file(path, O_RDONLY);
  return read_program_needs(file.get(), std::filesystem::file_size(path));
}

/// Compiles an empty program with `options`.
std::string compile(const ScratchDirectory& directory, const std::string& options) {
  directory.write("main.c", "int main(void) { return 0; }\n");
  REQUIRE(directory.run("gcc -o program main.c " + options).status == 0);
  return directory.path("program");
}

TEST_CASE("A dynamically linked program needs its loader and its libraries") {
  const ScratchDirectory directory;
  const ProgramNeeds needs = needs_of(compile(directory, "-Wl,--no-as-needed -lm"));
  CHECK(needs.interpreter == "/lib64/ld-linux-x86-64.so.2");
  CHECK(needs.libraries == Strings{"libm.so.6", "libc.so.6"});
}

TEST_CASE("A static program needs nothing") {
  const ScratchDirectory directory;
  const ProgramNeeds needs = needs_of(compile(directory, "-static"));
  CHECK(needs.interpreter.empty());
  CHECK(needs.libraries.empty());
}

TEST_CASE("A program with a search path of its own is not judged by its libraries") {
  const ScratchDirectory directory;
  const std::string option =
      GENERATE("-Wl,-rpath,/opt/lib", "-Wl,--disable-new-dtags,-rpath,/opt/lib", "-Wl,-rpath,'$ORIGIN'");
  const ProgramNeeds needs = needs_of(compile(directory, option));
  CHECK(needs.interpreter == "/lib64/ld-linux-x86-64.so.2");
  CHECK(needs.libraries.empty());
}

TEST_CASE("Bytes that make no sense need nothing, wherever they are broken") {
  const ScratchDirectory directory;
  const std::string path = compile(directory, "");
  const UniqueFd file = open_file(path, O_RDWR);
  std::vector<char> head(0x400);
  REQUIRE(::pread(file.get(), head.data(), head.size(), 0) == static_cast<ssize_t>(head.size()));
  // Each of the header's and the program headers' bytes in turn.
  for (std::size_t i = 0; i < head.size(); ++i) {
    const char broken = static_cast<char>(~head[i]);
    REQUIRE(::pwrite(file.get(), &broken, 1, static_cast<off_t>(i)) == 1);
    const ProgramNeeds needs = needs_of(path);
    CHECK(needs.interpreter.size() < 4096);
    CHECK(needs.libraries.size() <= 256);
    REQUIRE(::pwrite(file.get(), &head[i], 1, static_cast<off_t>(i)) == 1);
  }
  CHECK(needs_of(path).libraries == Strings{"libc.so.6"});
  const auto size = std::filesystem::file_size(path);
  for (std::uintmax_t cut = 0; cut < size; cut += 61) {
    CHECK(read_program_needs(file.get(), cut).libraries.size() <= 1);
  }
}

}  // namespace
}  // namespace minivm
