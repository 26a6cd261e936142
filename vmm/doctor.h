#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace minivm {

/// One thing that was looked at.
struct Finding {
  enum class State : std::uint8_t { ok, warning, failure };  // failure: `minivm run` would fail

  State state = State::ok;
  std::string name;
  std::string detail;
  std::string fix;  // what the user can do about it; empty when there is nothing to mend
};

struct Examination {
  std::string kernel;     // empty: the one that `run` would take
  bool only_kvm = false;  // nothing but /dev/kvm and its speed
};

/// Looks at all that `minivm run` needs. The kernel is unpacked into the cache on the way, if it is not there yet.
std::vector<Finding> examine_host(const Examination& wanted);

}  // namespace minivm
