#pragma once

#include <cstdlib>

#include "tests/scratch_directory.h"

namespace minivm::test {

/// The state directory of one test.
class OwnStateDirectory {
 public:
  OwnStateDirectory() { ::setenv("XDG_RUNTIME_DIR", scratch_.path().c_str(), 1); }
  ~OwnStateDirectory() { ::unsetenv("XDG_RUNTIME_DIR"); }
  OwnStateDirectory(const OwnStateDirectory&) = delete;
  OwnStateDirectory& operator=(const OwnStateDirectory&) = delete;

 private:
  ScratchDirectory scratch_;
};

}  // namespace minivm::test
