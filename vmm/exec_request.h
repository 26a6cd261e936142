#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "minivm/config.h"
#include "protocol/messages.h"
#include "vmm/program_needs.h"

namespace minivm {

/// A command as an encoded EXEC frame. `streams` says what `command` does not: ports, program size, window size;
/// `needs` are the uploaded program's. Throws std::runtime_error when no frame can hold it.
std::vector<std::byte> encode_exec(std::uint32_t id, const Command& command, const protocol::Exec& streams,
                                   const ProgramNeeds& needs);

/// The other way: what a client of the machine's socket asked for. The name that an upload had is not in it; argv[0]
/// stands for it.
Command command_of(const protocol::Exec& request);
ProgramNeeds needs_of(const protocol::Exec& request);

}  // namespace minivm
