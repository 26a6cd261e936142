#pragma once

namespace minivm {

/// Takes the code and constants of the program and of its libraries out of the process's memory; what runs again comes
/// back from the host's page cache, 64 KiB at once. For a process whose start is over: most of its code was for that.
/// Any thread, at any time.
void release_program_pages() noexcept;

}  // namespace minivm
