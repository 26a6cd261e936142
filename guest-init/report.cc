#include "guest-init/report.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

namespace minivm::guest {
namespace {

bool is_verbose = false;
bool has_console = false;

void write_line(const Text<512>& line) noexcept {
  // One write, so that the kernel's own lines do not cut it. There is nobody to tell when the console refuses it.
  [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, line.c_str(), line.view().size());
}

}  // namespace

void open_console() noexcept {
  if (has_console) return;
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  has_console = fd >= 0;
  // Until then whoever shows the kernel's log shows what is said here.
  if (fd < 0) fd = open("/dev/kmsg", O_WRONLY);
  if (fd < 0) fd = open("/dev/null", O_RDWR);
  for (int standard = 0; fd >= 0 && standard <= STDERR_FILENO; ++standard) {
    if (standard != fd) dup2(fd, standard);
  }
  if (fd > STDERR_FILENO) close(fd);
}

void set_verbose(bool verbose) noexcept { is_verbose = verbose; }

void tell(std::string_view step, std::string_view object) noexcept {
  if (!is_verbose) return;
  write_line(Text<512>("minivm: ").add(step).add(" ").add(object).add("\n"));
}

void complain(std::string_view step, std::string_view object, int error) noexcept {
  Text<512> line("minivm: ");
  line.add(step).add(" ").add(object);
  if (error != 0) line.add(": ").add(strerror(error));
  write_line(line.add("\n"));
}

}  // namespace minivm::guest
