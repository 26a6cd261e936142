// Every decoder of the command channel, on any bytes: what a hostile guest, or a hostile host, can send.
#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/frame.h"
#include "protocol/guest_config.h"
#include "protocol/messages.h"

namespace {

template <typename Message>
void decode(std::span<const std::byte> bytes) {
  static_cast<void>(Message::decode(minivm::protocol::Reader(bytes)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace minivm::protocol;
  const auto bytes = std::as_bytes(std::span(data, size));
  static_cast<void>(FrameHeader::decode(bytes));
  decode<Hello>(bytes);
  decode<Welcome>(bytes);
  decode<Ready>(bytes);
  decode<Failed>(bytes);
  decode<Started>(bytes);
  decode<ExecFailed>(bytes);
  decode<Exited>(bytes);
  decode<Signal>(bytes);
  decode<Resize>(bytes);
  decode<GuestConfig>(bytes);
  std::size_t total = 0;
  if (const auto exec = Exec::decode(Reader(bytes))) {
    exec->argv.for_each([&](std::string_view word) { total += word.size(); });
    exec->env.for_each([&](std::string_view word) { total += word.size(); });
  }
  return total > size ? __builtin_trap(), 0 : 0;
}
