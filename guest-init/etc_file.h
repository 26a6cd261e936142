#pragma once

#include <string_view>

namespace minivm::guest {

/// Lets programs find `content` in the file /etc/NAME, and leaves what is on the root's disk as it is: a missing file
/// is made, one that is there is covered by a mount when `cover` says so, and a link into /run (systemd-resolved's)
/// gets the file that it leads to. No link is followed elsewhere. What cannot be done, on a read-only root for
/// instance, is left out, with a word on the console when verbose.
void provide_etc_file(std::string_view name, std::string_view content, bool cover) noexcept;

}  // namespace minivm::guest
