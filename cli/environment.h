#pragma once

#include <string>
#include <vector>

namespace minivm {

/// Variables for a command, in the order in which they were first named; a later value replaces an earlier one.
class Environment {
 public:
  /// "K=V"; "K" alone takes minivm's own value, or nothing when that is unset. Throws std::invalid_argument.
  void set(const std::string& text);
  /// A file of such lines, as docker reads it: blanks before a name, blank lines and lines that begin with # do not
  /// count, all behind the = does, quotes and blanks included. Throws std::invalid_argument that names file and line.
  void read(const std::string& path);

  /// Variables of `files` where this does not name them: what is said on the command line wins.
  std::vector<std::string> over(const Environment& files) const;

 private:
  bool names(const std::string& entry) const;

  std::vector<std::string> entries_;  // "K=V"
};

}  // namespace minivm
