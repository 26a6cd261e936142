#pragma once

#include "base/event_loop.h"

namespace minivm {

/// Takes the code and constants of the program and of its libraries out of the process's memory; what runs again comes
/// back from the host's page cache, 64 KiB at once. For a process whose start is over: most of its code was for that.
/// Any thread, at any time; a debugger's breakpoints are lost.
void release_program_pages() noexcept;

/// Has `loop` do so when this process has done what it does once. A command that is over by then pays nothing.
void release_program_pages_later(EventLoop& loop);

}  // namespace minivm
