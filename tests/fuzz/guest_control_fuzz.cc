// The guest's end of the control connection: any bytes, cut anywhere, give whole frames or the end of the connection,
// and an exec request that can be decoded becomes a plan within the memory that it asks for. Nothing is executed.
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "guest-init/control.h"
#include "guest-init/exec_plan.h"
#include "protocol/messages.h"

namespace {

using namespace minivm;

void plan(std::span<const std::byte> payload) {
  const auto request = protocol::Exec::decode(protocol::Reader(payload));
  if (!request) return;
  const std::size_t size = guest::ExecPlan::size_for(*request, payload.size());
  const auto memory = std::make_unique<std::byte[]>(size);  // zeroed, and of just this size
  protocol::ExecFailed failed;
  auto* const built = guest::ExecPlan::build(*request, {"/dev/null", "/dev/null"}, {memory.get(), size}, failed);
  if (built != nullptr && built->argv[request->argv.count()] != nullptr) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t step = std::size_t{1} + data[0];
  const std::span bytes(data + 1, size - 1);
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) __builtin_trap();
  const Fd host(ends[0]);
  const auto control = std::make_unique<guest::Control>(Fd(ends[1]));
  for (std::size_t done = 0; done < bytes.size(); done += step) {
    const auto part = bytes.subspan(done, std::min(step, bytes.size() - done));
    if (::send(host.get(), part.data(), part.size(), MSG_DONTWAIT) < 0) return 0;
    while (control->receive()) {
      while (const auto frame = control->next()) {
        if (frame->payload.size() != frame->header.length) __builtin_trap();
        plan(frame->payload);
        static_cast<void>(protocol::SetTime::decode(protocol::Reader(frame->payload)));
      }
    }
  }
  return 0;
}
