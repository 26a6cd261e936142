// The host end of the control connection: any bytes, cut anywhere, give whole frames or the end of the connection.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "vmm/control_connection.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t step = std::size_t{1} + data[0];
  std::vector<std::uint8_t> bytes(data + 1, data + size);
  minivm::ControlConnection connection(
      [](const minivm::protocol::FrameHeader& header, std::span<const std::byte> payload) {
        if (payload.size() != header.length) __builtin_trap();
        return header.id != 0xFFFF'FFFF;
      },
      [](const std::string&) {});
  for (std::size_t done = 0; done < bytes.size(); done += step) {
    const iovec part{bytes.data() + done, std::min(step, bytes.size() - done)};
    if (connection.receive(std::span(&part, 1)) > part.iov_len) __builtin_trap();
  }
  return 0;
}
