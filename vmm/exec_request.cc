#include "vmm/exec_request.h"

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace minivm {
namespace {

using protocol::Exec;
using protocol::FrameHeader;

/// More than the fields of fixed size take.
constexpr std::size_t fixed_size = 1024;

std::size_t size_of(const std::vector<std::string>& list) {
  std::size_t size = 0;
  for (const std::string& text : list) size += sizeof(std::uint32_t) + text.size();
  return size;
}

}  // namespace

std::vector<std::byte> encode_exec(std::uint32_t id, const Command& command, const Exec& streams,
                                   const ProgramNeeds& needs) {
  Exec fixed = streams;
  fixed.flags = (command.tty ? Exec::tty : 0) | (streams.program_port != 0 ? Exec::upload : 0) |
                (command.built_in ? Exec::built_in : 0);
  fixed.user = command.user;
  fixed.directory = command.directory;
  fixed.umask = command.umask;
  for (const Limit& limit : command.limits) {
    fixed.limits.add({static_cast<std::uint32_t>(limit.resource), limit.soft, limit.hard});
  }
  fixed.interpreter = needs.interpreter;
  std::vector<std::byte> frame(FrameHeader::size + fixed_size + command.user.size() + command.directory.size() +
                               size_of(command.argv) + size_of(command.env) + needs.interpreter.size() +
                               size_of(needs.libraries));
  const auto encoded = protocol::encode_frame(
      frame, protocol::FrameType::exec, id,
      protocol::ExecRequest<std::vector<std::string>>{fixed, command.argv, command.env, &needs.libraries});
  if (encoded.empty()) {
    throw std::runtime_error(
        fmt::format("arguments and environment: more than {} KiB", FrameHeader::max_payload >> 10));
  }
  frame.resize(encoded.size());
  return frame;
}

Command command_of(const Exec& request) {
  Command command;
  request.argv.for_each([&](std::string_view word) { command.argv.emplace_back(word); });
  request.env.for_each([&](std::string_view assignment) { command.env.emplace_back(assignment); });
  command.directory = request.directory;
  command.user = request.user;
  command.tty = (request.flags & Exec::tty) != 0;
  command.built_in = (request.flags & Exec::built_in) != 0;
  command.umask = request.umask;
  for (const protocol::ResourceLimit& limit : request.limits.list()) {
    command.limits.push_back({static_cast<int>(limit.resource), limit.soft, limit.hard});
  }
  if ((request.flags & Exec::upload) != 0) command.upload = command.argv.front();
  return command;
}

ProgramNeeds needs_of(const Exec& request) {
  ProgramNeeds needs{.interpreter = std::string(request.interpreter), .libraries = {}};
  request.libraries.for_each([&](std::string_view name) { needs.libraries.emplace_back(name); });
  return needs;
}

}  // namespace minivm
