// The handshake at the outside door: any bytes, in pieces, through a real socket.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/unix_socket.h"
#include "vmm/vsock_door.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0 || size > 256) return 0;
  using namespace minivm;
  static const std::string path = "/tmp/minivm-door-fuzz-" + std::to_string(::getpid());
  const std::size_t step = std::size_t{1} + data[0] % 40;
  const std::span bytes(data + 1, size - 1);
  EventLoop loop;
  virtio::Vsock vsock(3, loop);
  const VsockDoor door(vsock, loop, path);
  const UniqueFd caller = connect_unix(path);
  // One turn of the loop between any two pieces.
  std::function<void(std::size_t)> say = [&](std::size_t done) {
    if (done >= bytes.size()) {
      ::shutdown(caller.get(), SHUT_WR);
      loop.post([&] { loop.post([&] { loop.stop(); }); });
      return;
    }
    const auto part = bytes.subspan(done, std::min(step, bytes.size() - done));
    [[maybe_unused]] const auto ignored = ::send(caller.get(), part.data(), part.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    loop.post([&say, next = done + step] { say(next); });
  };
  loop.post([&] { say(0); });
  loop.run();
  return 0;
}
