#include "copy/report.h"

#include <unistd.h>

#include <climits>
#include <cstring>

#include "freestanding/text.h"

namespace minivm::copy {

void Report::operator()(std::string_view object, std::string_view reason) const noexcept {
  Text<PATH_MAX + 512> line("minivm: cp: ");
  line.add(side_);
  // A name may hold any bytes, and the other end may have chosen it.
  for (const char each : object) {
    if (line.view().size() > PATH_MAX) break;
    const char shown = static_cast<unsigned char>(each) < 0x20 || each == 0x7F ? '?' : each;
    line.add({&shown, 1});
  }
  line.add(": ").add(reason).add("\n");
  [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, line.c_str(), line.view().size());
}

void Report::operator()(std::string_view object, int error) const noexcept { (*this)(object, strerror(error)); }

}  // namespace minivm::copy
