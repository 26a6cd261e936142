#pragma once

#include <string_view>

namespace minivm::guest {

/// Blocks every signal for good: they are read from a signalfd, and no disposition needs to change.
void block_signals() noexcept;

/// Host name (unchanged when empty) and the loopback interface.
void name_machine(std::string_view hostname) noexcept;

/// What programs inherit: umask 022, a high limit of open files and one of our own to serve all sessions.
void set_limits() noexcept;

/// Lets who wakes this process go on first, so that it finds more to do at once: a kernel thread that receives the next
/// of many packets, a program that writes. Where a processor is busy it waits for its turn. Programs do not inherit it.
void let_others_go_first() noexcept;

}  // namespace minivm::guest
