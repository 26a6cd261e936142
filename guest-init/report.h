#pragma once

#include <string_view>

#include "guest-init/failure.h"

namespace minivm::guest {

/// Makes fds 0 to 2 the console, and has no effect once they are. It may be there only after a module brought its
/// driver; before, they are the kernel's log. Everything that is opened later gets a higher number, which the exec
/// server relies on.
void open_console() noexcept;

/// Steps are told to the console only after `set_verbose(true)`.
void set_verbose(bool verbose) noexcept;
void tell(std::string_view step, std::string_view object) noexcept;

/// One line on the console, always: "minivm: step object: reason".
void complain(std::string_view step, std::string_view object, int error) noexcept;

}  // namespace minivm::guest
