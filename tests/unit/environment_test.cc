#include "cli/environment.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using Strings = std::vector<std::string>;

Strings read(const std::string& content) {
  const test::ScratchDirectory directory;
  Environment files;
  files.read(directory.write("env", content));
  return Environment().over(files);
}

TEST_CASE("A variable that is named again has its last value, at its first place") {
  Environment given;
  for (const char* text : {"A=1", "B=", "A=2=3"}) given.set(text);
  CHECK(given.over({}) == Strings{"A=2=3", "B="});
}

TEST_CASE("A name alone passes minivm's own value, and nothing when it has none") {
  ::setenv("MINIVM_TEST_GIVEN", "a b", 1);
  ::unsetenv("MINIVM_TEST_ABSENT");
  Environment given;
  given.set("MINIVM_TEST_GIVEN");
  given.set("MINIVM_TEST_ABSENT");
  CHECK(given.over({}) == Strings{"MINIVM_TEST_GIVEN=a b"});
  CHECK_THROWS_AS(given.set("=x"), std::invalid_argument);
  CHECK_THROWS_AS(given.set(""), std::invalid_argument);
}

TEST_CASE("A file is read as docker reads it") {
  ::setenv("MINIVM_TEST_GIVEN", "own", 1);
  CHECK(read("# comment\n\n  \t\n  A=1\nB='q' # kept \nMINIVM_TEST_GIVEN\nC=\nA=2\r\nD=last") ==
        Strings{"A=2", "B='q' # kept ", "MINIVM_TEST_GIVEN=own", "C=", "D=last"});
  CHECK(read("\xEF\xBB\xBF"
             "A=1\n") == Strings{"A=1"});
  CHECK(read("").empty());
}

TEST_CASE("What the command line says wins over a file") {
  const test::ScratchDirectory directory;
  Environment files;
  files.read(directory.write("env", "A=file\nB=file\n"));
  Environment given;
  given.set("A=given");
  CHECK(given.over(files) == Strings{"B=file", "A=given"});
}

TEST_CASE("A file that cannot be read, or a line that names no variable, is told") {
  const test::ScratchDirectory directory;
  const auto complaint = [&](const std::string& path) {
    try {
      Environment().read(path);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(complaint(directory.path("none")) == directory.path("none") + ": No such file or directory");
  CHECK(complaint(directory.path()) == directory.path() + ": Is a directory");
  const std::string bad = directory.write("bad", "A=1\nB C=2\n");
  CHECK(complaint(bad) == bad + ":2: 'B C' is no name of a variable");
  const std::string nameless = directory.write("nameless", "=1\n");
  CHECK(complaint(nameless) == nameless + ":1: '' is no name of a variable");
}

}  // namespace
}  // namespace minivm
