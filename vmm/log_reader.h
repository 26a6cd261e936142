#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/fd.h"

namespace minivm {

/// Reads what a LogFile keeps, from the oldest byte on, while its writer may go on.
class LogReader {
 public:
  /// `directory` is not closed, and outlives this object.
  LogReader(int directory, std::string name);

  /// Whether there is such a log.
  explicit operator bool() const noexcept { return static_cast<bool>(file_); }
  /// Appends what is there by now to `bytes`; false when there is nothing new. Stops where the log's other part begins,
  /// which the next call goes on with.
  bool read(std::vector<std::byte>& bytes);
  /// The last call of `read` ended a part: nothing that follows belongs to its last bytes.
  bool at_part_end() const noexcept { return at_part_end_; }

 private:
  UniqueFd open_next() const;

  int directory_;
  std::string name_;
  UniqueFd file_;
  bool at_part_end_ = false;
};

}  // namespace minivm
