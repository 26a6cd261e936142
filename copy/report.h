#pragma once

#include <string_view>

namespace minivm::copy {

/// Says on stderr why something could not be copied: "minivm: cp: SIDE: OBJECT: reason", in one write.
class Report {
 public:
  /// `side` tells the guest's words from the host's; it outlives this.
  explicit Report(std::string_view side) noexcept : side_(side) {}

  void operator()(std::string_view object, std::string_view reason) const noexcept;
  void operator()(std::string_view object, int error) const noexcept;

 private:
  std::string_view side_;
};

}  // namespace minivm::copy
