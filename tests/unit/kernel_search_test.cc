#include "vmm/kernel_search.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <optional>
#include <string>

#include "tests/scratch_directory.h"

namespace minivm {
namespace {

using test::ScratchDirectory;

/// An environment variable that gets its old value back.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (old_) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST_CASE("A kernel that is named is taken before all others, there or not") {
  const Variable variable("MINIVM_KERNEL", "/from/environment");
  const KernelChoice choice = find_kernel({.kernel = "/from/option"});
  CHECK(choice.path == "/from/option");
  CHECK(choice.why == "--kernel");
}

TEST_CASE("$MINIVM_KERNEL is taken before what lies around") {
  const Variable variable("MINIVM_KERNEL", "/from/environment");
  const KernelChoice choice = find_kernel({});
  CHECK(choice.path == "/from/environment");
  CHECK(choice.why == "$MINIVM_KERNEL");
}

TEST_CASE("Modules that are named are taken, there or not") {
  CHECK(find_modules({.modules = "/some/modules"}, "/boot/vmlinuz", "6.1") == "/some/modules");
}

TEST_CASE("Modules beside the kernel are taken before the host's, when they are a module tree") {
  const ScratchDirectory directory;
  const std::string kernel = directory.write("vmlinuz", "");
  CHECK(find_modules({}, kernel, "no-such-release").empty());
  directory.write("modules/other", "");
  CHECK(find_modules({}, kernel, "no-such-release").empty());
  directory.write("modules/modules.dep", "");
  CHECK(find_modules({}, kernel, "no-such-release") == directory.path("modules"));
}

TEST_CASE("A kernel without a release has no modules on the host") {
  const ScratchDirectory directory;
  CHECK(find_modules({}, directory.path("vmlinuz"), "").empty());
}

}  // namespace
}  // namespace minivm
